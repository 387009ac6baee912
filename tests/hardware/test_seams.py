from __future__ import annotations

import numpy as np
import pytest

from fermo.hardware.seams import HOLD, seams

DT = 0.04


def test_the_jerk_of_a_cubic_is_its_third_derivative_and_a_switch_adds_what_the_jump_makes():
    t = DT * np.arange(20)
    commands = np.stack([2.0 * t**3, -t], axis=1)
    found = seams(commands, np.zeros(20, dtype=int), DT)
    np.testing.assert_allclose(found.inner_jerk, 12.0, rtol=1e-9)
    assert found.jerk.size == found.step.size == 0
    jump = np.array([0.0, 0.3])
    found = seams(commands + (np.arange(20) >= 10)[:, None] * jump, np.arange(20) // 10, DT)
    np.testing.assert_allclose(found.inner_jerk, 12.0, rtol=1e-9)
    binomial = np.array([1.0, -2.0, 1.0]) * 0.3 / DT**3  # a step under the third difference
    np.testing.assert_allclose(found.jerk, np.hypot(12.0, binomial), rtol=1e-9)
    np.testing.assert_allclose(found.step, 0.3 - DT)
    np.testing.assert_allclose(found.inner_step.max(), np.diff(2.0 * t**3).max())


def test_both_ends_of_a_hold_are_seams_and_the_hold_itself_counts_nowhere():
    origin = np.array([0] * 5 + [HOLD] * 6 + [1] * 5)
    found = seams(np.arange(16.0)[:, None], origin, DT)
    assert (found.jerk.size, found.inner_jerk.size) == (6, 4)
    assert (found.step.size, found.inner_step.size) == (2, 8)


@pytest.mark.parametrize("length", [0, 1, 2, 3])
def test_episodes_too_short_for_a_difference_have_none(length: int):
    found = seams(np.zeros((length, 6)), np.arange(length), DT)
    assert found.jerk.size == found.inner_jerk.size == 0 and found.step.size == max(0, length - 1)
