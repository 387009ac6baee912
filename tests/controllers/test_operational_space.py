"""Operational space control against the equations it stands for, written out with dense inverses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="numba comes with the robosuite extra")

from fermo.controllers.operational_space import operational_space_torque

SEEDS = st.integers(0, 2**32 - 1)


def draw(seed, joints=7):
    """An arm somewhere: inertia, Jacobian, wishes in space and for the posture."""
    random = np.random.default_rng(seed)
    root = random.normal(size=(joints, joints))
    inertia = root @ root.T + 0.1 * np.eye(joints)
    return inertia, random.normal(size=(6, joints)), random.normal(size=6), random.normal(size=joints)


def torque_of(inertia, jacobian, task, posture):
    torque = np.empty(len(posture))
    operational_space_torque(torque, inertia, jacobian, task, posture)
    return torque


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS)
def test_torques_are_khatibs(seed):
    inertia, jacobian, task, posture = draw(seed)
    inverse = np.linalg.inv(inertia)
    mobility = jacobian @ inverse @ jacobian.T
    wrench = np.r_[np.linalg.pinv(mobility[:3, :3]) @ task[:3], np.linalg.pinv(mobility[3:, 3:]) @ task[3:]]
    null = np.eye(7) - inverse @ jacobian.T @ np.linalg.pinv(mobility) @ jacobian
    expected = jacobian.T @ wrench + null.T @ inertia @ posture
    scale = np.linalg.cond(mobility) * np.linalg.cond(inertia) * np.abs(expected).max()
    assert np.abs(torque_of(inertia, jacobian, task, posture) - expected).max() < 1e-13 * scale


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS)
def test_the_posture_does_not_move_the_tool(seed):
    inertia, jacobian, _, posture = draw(seed)
    torque = torque_of(inertia, jacobian, np.zeros(6), posture)
    moved = jacobian @ np.linalg.solve(inertia, torque)
    mobility = jacobian @ np.linalg.solve(inertia, jacobian.T)
    scale = np.linalg.cond(mobility) * np.linalg.cond(inertia)
    assert np.abs(moved).max() < 1e-13 * scale


@settings(max_examples=50, deadline=None)
@given(seed=SEEDS)
def test_a_translation_alone_is_realised_along_the_wished_line(seed):
    inertia, jacobian, task, _ = draw(seed)
    task[3:] = 0.0
    torque = torque_of(inertia, jacobian, task, np.zeros(7))
    moved = jacobian[:3] @ np.linalg.solve(inertia, torque)
    np.testing.assert_allclose(moved, task[:3], atol=1e-7)


def test_only_the_lower_triangle_of_the_inertia_is_read():
    inertia, jacobian, task, posture = draw(0)
    np.testing.assert_array_equal(
        torque_of(np.tril(inertia), jacobian, task, posture), torque_of(inertia, jacobian, task, posture)
    )


def test_a_singular_arm_gets_finite_torques_and_moves_as_it_can():
    inertia, jacobian, task, posture = draw(1)
    jacobian[2] = 0.0  # it cannot move along z
    torque = torque_of(inertia, jacobian, task, posture)
    assert np.isfinite(torque).all()
    torque = torque_of(inertia, jacobian, np.r_[task[:3], np.zeros(3)], np.zeros(7))
    np.testing.assert_allclose(jacobian[:2] @ np.linalg.solve(inertia, torque), task[:2], atol=1e-9)
