"""Fluctuation, jitter and spectrum against closed forms: constants, ramps, rotations, sinusoids, white noise."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fermo.training.bench.smoothness import ActionLog, Smoothness, smoothness

DT = 0.02


def measured(actions: Tensor, lengths: Tensor | None = None, scale: Tensor | None = None, dt: float = DT) -> Smoothness:
    whole = torch.full((len(actions),), actions.shape[1])
    scale = torch.ones(actions.shape[2]) if scale is None else scale
    return smoothness(actions, whole if lengths is None else lengths, scale=scale, dt=dt)


def rotation(frequency: float, steps: int, amplitude: float = 1.0) -> Tensor:
    """A sine and a cosine, whose differences of every order have a constant norm; shape ``(1, T, 2)``."""
    phase = 2 * math.pi * frequency * DT * torch.arange(steps, dtype=torch.float64)
    return amplitude * torch.stack((phase.sin(), phase.cos()), dim=1)[None]


def test_a_constant_is_perfectly_smooth() -> None:
    found = measured(torch.full((3, 40, 2), 0.7))
    for value in (found.fluctuation, found.jitter, found.spectrum):
        torch.testing.assert_close(value, torch.zeros(3, dtype=torch.float64), atol=1e-9, rtol=0)


def test_a_ramp_fluctuates_by_its_slope_and_has_no_jitter() -> None:
    slope = torch.tensor([3.0, -4.0], dtype=torch.float64)
    found = measured(torch.arange(50, dtype=torch.float64)[None, :, None] * DT * slope)
    assert found.fluctuation.item() == pytest.approx(5.0 * DT)
    assert found.jitter.item() == pytest.approx(0.0, abs=1e-6)


def test_a_cubic_has_the_jitter_of_its_third_derivative() -> None:
    t = DT * torch.arange(30, dtype=torch.float64)
    assert measured((2 * t**3 - t**2)[None, :, None]).jitter.item() == pytest.approx(12.0, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.floats(0.1, 24.0), st.floats(0.01, 10.0), st.integers(4, 200))
def test_a_rotation_moves_by_its_chord_in_every_difference(frequency: float, amplitude: float, steps: int) -> None:
    found = measured(rotation(frequency, steps, amplitude))
    chord = 2 * math.sin(math.pi * frequency * DT)
    assert found.fluctuation.item() == pytest.approx(amplitude * chord, rel=1e-6)
    assert found.jitter.item() == pytest.approx(amplitude * chord**3 / DT**3, rel=1e-6, abs=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 49), st.floats(0.01, 10.0))
def test_the_spectrum_of_a_sinusoid_is_its_amplitude_times_its_frequency(cycles: int, amplitude: float) -> None:
    steps, n = 100, 49
    frequency = cycles / (steps * DT)
    expected = 2 / n * amplitude * frequency * DT
    assert measured(rotation(frequency, steps, amplitude)).spectrum.item() == pytest.approx(expected, rel=1e-9)


def test_white_noise_has_its_expected_measures() -> None:
    steps, spread = 101, 0.3
    noise = spread * torch.randn(4000, steps, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found, n = measured(noise), (steps - 1) // 2
    # A difference of normals is normal, with mean size sqrt(2 / pi) of its deviation; amplitudes are Rayleigh.
    assert found.fluctuation.mean().item() == pytest.approx(2 * spread / math.sqrt(math.pi), rel=5e-3)
    assert found.jitter.mean().item() == pytest.approx(spread * math.sqrt(40 / math.pi) / DT**3, rel=5e-3)
    expected = spread * math.sqrt(math.pi / steps) * (n + 1) / steps
    assert found.spectrum.mean().item() == pytest.approx(expected, rel=5e-3)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=6), st.integers(0, 2**31))
def test_only_an_episodes_own_steps_count(lengths: list[int], seed: int) -> None:
    actions = torch.randn(len(lengths), 30, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    together = measured(actions, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        alone = measured(actions[row : row + 1, :length])
        for name, needed in (("fluctuation", 2), ("jitter", 4), ("spectrum", 3)):
            one, other = getattr(together, name)[row].item(), getattr(alone, name).item()
            assert math.isnan(one) == math.isnan(other) == (length < needed)
            assert math.isnan(one) or one == pytest.approx(other, rel=1e-9)


def test_units_cancel_against_the_scale() -> None:
    actions = torch.randn(2, 60, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    units = torch.tensor([1.0, 1000.0, 0.01], dtype=torch.float64)
    plain, scaled = measured(actions), measured(actions * units, scale=units)
    torch.testing.assert_close(scaled.fluctuation, plain.fluctuation)
    torch.testing.assert_close(scaled.jitter, plain.jitter)
    torch.testing.assert_close(scaled.spectrum, plain.spectrum)


def test_a_log_holds_the_answers_in_their_order_and_changes_none() -> None:
    log = ActionLog(lambda obs: 2 * obs)
    observations = torch.arange(12.0).reshape(3, 4, 1)
    answers = [log(obs) for obs in observations]
    answers[0].zero_()  # what the caller does with an answer later is not logged
    assert torch.equal(log.actions, 2 * observations.transpose(0, 1))
