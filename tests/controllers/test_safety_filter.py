"""Safe sets that are never left, and every way in which a filter can fail."""

from __future__ import annotations

import dataclasses
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from fermo.assets.scenes.so101 import HOME_QPOS, TOOL_SITE, so101_scene
from fermo.assets.so101_plant import JOINT_HIGH, JOINT_LOW
from fermo.controllers.barriers import (
    AcceleratedHalfSpaces,
    JointHalfSpaces,
    JointVelocityLimits,
    PointHalfSpaces,
    double_integrator,
)
from fermo.controllers.kinematics import SerialChain
from fermo.controllers.projection import NAMES, Projection
from fermo.controllers.quadratic_program import QuadraticProgram, Solution, solve
from fermo.controllers.safety_filter import SafetyFilter, decelerate, stand_still
from fermo.errors import FermoError

SEEDS = st.integers(0, 2**32 - 1)


def tensor(*values) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def walls(normals: list[list[float]], offsets: list[float], **changes) -> SafetyFilter:
    """Half-spaces for a point in the plane that is moved by its velocity, at 1 s a step."""
    options = {"slack_weight": changes.pop("slack_weight", 1e4), "error": changes.pop("error", 0.0)}
    labels = [f"wall {i}" for i in range(len(offsets))]
    barrier = JointHalfSpaces(np.array(normals), np.array(offsets), labels, period=1.0, gamma=0.5, **options)
    return SafetyFilter([barrier], np.full(2, -9.0), np.full(2, 9.0), stand_still, **changes)


def outcomes(found: Projection) -> list[str]:
    return [NAMES[outcome] for outcome in found.outcome]


AT_ORIGIN = {"joint_position": tensor([0.0, 0.0])}


# --- the nearest safe command -------------------------------------------------------------------------------------


def test_a_safe_command_passes_bit_for_bit_and_costs_no_program() -> None:
    def refuse(problem: QuadraticProgram) -> Solution:
        raise AssertionError("nothing was to be solved")

    wanted = torch.tensor([[0.1, -0.3]], dtype=torch.float32)
    safe, found = walls([[1.0, 0.0]], [-1.0], solver=refuse).filter(wanted, AT_ORIGIN)
    assert torch.equal(safe, wanted) and safe.dtype == torch.float32
    assert outcomes(found) == ["passed"] and found.slope() == 0.0


@settings(max_examples=40, deadline=None)
@given(angle=st.floats(0, 2 * math.pi), distance=st.floats(0.0, 2.0), x=st.floats(-3, 3), y=st.floats(-3, 3))
def test_one_wall_takes_away_what_is_normal_to_it(angle: float, distance: float, x: float, y: float) -> None:
    normal, wanted = np.array([math.cos(angle), math.sin(angle)]), np.array([x, y])
    safe, found = walls([normal.tolist()], [-distance]).filter(tensor([x, y]), AT_ORIGIN)
    missing = max(0.0, -0.5 * distance - normal @ wanted)  # half of the distance may be lost
    np.testing.assert_allclose(safe[0], wanted + missing * normal, atol=1e-6)
    np.testing.assert_allclose(found.clearance, normal @ wanted + 0.5 * distance, atol=1e-9)


def test_the_slope_over_the_walls_is_that_of_the_corner_and_infinite_where_walls_are_parallel() -> None:
    for turn, expected in ((90.0, 1.0), (30.0, 1.0 / math.sqrt(1 - math.cos(math.radians(30.0))))):
        second = [math.cos(math.radians(turn)), math.sin(math.radians(turn))]
        against = [-1.0 - second[0], -second[1]]
        _, found = walls([[1.0, 0.0], second], [0.0, 0.0]).filter(tensor(against), AT_ORIGIN)
        assert found.slope() == pytest.approx(expected)  # sigma_min^2 of two unit rows is 1 - cos of their angle
    three = [[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]]
    _, found = walls(three, [0.0, 0.0, 0.0]).filter(tensor([-3.0, -3.0]), AT_ORIGIN)
    assert found.slope() <= 2.0  # the third row is redundant and does not press
    _, found = walls([[1.0, 0.0], [-1.0, 0.0]], [0.1, 0.1], slack_weight=10.0).filter(tensor([0.0, 0.0]), AT_ORIGIN)
    assert found.slope() == math.inf


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS)
def test_a_projection_enlarges_no_difference(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(5, 2, generator=random, dtype=torch.float64))
    wanted = 4 * torch.randn(2, 2, generator=random, dtype=torch.float64)
    safe, _ = walls(normals.tolist(), [-0.5] * 5).filter(wanted, {"joint_position": torch.zeros(2, 2).double()})
    assert (safe[0] - safe[1]).norm() <= (wanted[0] - wanted[1]).norm() + 1e-6


# --- safe sets are not left ---------------------------------------------------------------------------------------


CHAIN = SerialChain.from_model(so101_scene(with_cube=False).compile(), TOOL_SITE)
LOW, HIGH = tensor(*JOINT_LOW), tensor(*JOINT_HIGH)
FLOOR, DT = 0.03, 0.04


def so101_filter(error: float, rounds: int = 10) -> SafetyFilter:
    normals, offsets = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]]), np.array([FLOOR, -0.35])
    names, speed = [f"joint {i}" for i in range(6)], np.full(6, 4.5)
    return SafetyFilter(
        [
            JointHalfSpaces.limits(np.array(JOINT_LOW), np.array(JOINT_HIGH), names, period=DT, gamma=0.3, error=error),
            PointHalfSpaces(CHAIN, normals, offsets, ["floor", "front"], period=DT, size=6, gamma=0.3, error=error),
        ],
        -speed, speed, stand_still, rounds=rounds,
    )  # fmt: skip


def room(q: Tensor) -> Tensor:
    """The barriers themselves, ``(N, 14)``."""
    point = CHAIN.forward(q[:, :5])[0]
    return torch.cat([q - LOW, HIGH - q, point[:, 2:] - FLOOR, 0.35 - point[:, :1]], dim=1)


@settings(max_examples=6, deadline=None)
@given(seed=SEEDS, error=st.sampled_from([0.0, 0.004]), adversary=st.booleans())
def test_an_arm_never_leaves_its_room_whatever_is_asked_and_mismeasured(
    seed: int, error: float, adversary: bool
) -> None:
    random = torch.Generator().manual_seed(seed)
    worlds, safety = 16, so101_filter(error)
    q = tensor(*HOME_QPOS) + 0.1 * torch.randn(worlds, 6, generator=random, dtype=torch.float64)
    q = torch.where(room(q).min(dim=1, keepdim=True).values > 0.02, q, tensor(*HOME_QPOS))
    for _ in range(60):
        if adversary:  # straight for the nearest wall, with the error that hides it most
            point = q.clone().requires_grad_()
            (away,) = torch.autograd.grad(room(point).min(dim=1).values.sum(), point)
            wanted, measured = -50.0 * away, q + error * away.sign()
        else:
            wanted = 10.0 * torch.randn(worlds, 6, generator=random, dtype=torch.float64)
            measured = q + error * (2 * torch.rand(worlds, 6, generator=random, dtype=torch.float64) - 1)
        step = DT * safety.filter(wanted, {"joint_position": measured})[0]
        midway, q = q + step / 2, q + step
        assert (room(q) >= -1e-6).all()
        assert (room(midway) >= -0.01).all()  # on the way the bound is that of the curvature
    assert safety.counts["softened"] == safety.counts["not solved"] == 0  # always feasible


def accelerated(error: float, velocity_error: float) -> list:
    names, limit, eye = ("x", "y"), np.array([1.0, 0.5]), np.eye(2)
    settings = {"gain_bound": 1.0, "period": 0.02, "gamma": 0.4, "velocity_error": velocity_error}
    return [
        AcceleratedHalfSpaces(
            np.vstack([eye, -eye]), -np.tile(limit, 2), ["x low", "y low", "x high", "y high"], double_integrator,
            decay=4.0, largest_acceleration=10.0, position_error=error, **settings,
        ),
        JointVelocityLimits(np.full(2, 2.0), names, double_integrator, **settings),
    ]  # fmt: skip


@settings(max_examples=8, deadline=None)
@given(seed=SEEDS, errors=st.sampled_from([(0.0, 0.0), (2e-3, 1e-2)]), adversary=st.booleans())
def test_a_double_integrator_stays_between_its_walls_at_all_times(
    seed: int, errors: tuple[float, float], adversary: bool
) -> None:
    random = torch.Generator().manual_seed(seed)
    worlds, dt, limit = 16, 0.02, tensor(1.0, 0.5)
    most = np.full(2, 10.0)
    safety = SafetyFilter(accelerated(*errors), -most, most, decelerate(dt))
    q, v = 0.4 * torch.rand(worlds, 2, generator=random, dtype=torch.float64), torch.zeros(worlds, 2).double()
    push = torch.randn(worlds, 2, generator=random, dtype=torch.float64).sign()
    for _ in range(150):
        noise = [2 * torch.rand(worlds, 2, generator=random, dtype=torch.float64) - 1 for _ in errors]
        wanted = 50.0 * (push if adversary else torch.randn(worlds, 2, generator=random, dtype=torch.float64))
        if adversary:
            noise = [-push, -push]  # farther from the wall, and slower, than it is
        measured = {"joint_position": q + errors[0] * noise[0], "joint_velocity": v + errors[1] * noise[1]}
        a = safety.filter(wanted, measured)[0]
        for t in torch.linspace(0, dt, 5).tolist():
            assert ((q + t * v + 0.5 * t**2 * a).abs() <= limit + 1e-9).all()
            assert ((v + t * a).abs() <= 2.0 + 1e-6).all()
        q, v = q + dt * v + 0.5 * dt**2 * a, v + dt * a
    assert safety.counts["softened"] == safety.counts["not solved"] == 0
    if adversary:
        assert (q.abs() > 0.8 * limit).all()  # it is let near the walls, too


CART, POLE, LENGTH, GRAVITY = 1.0, 0.1, 0.5, 9.81


def cart_pole(q: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drift and gain of ``(x, theta)`` under a force on the cart, the pole a point mass on a massless rod."""
    sin, cos = np.sin(q[:, 1]), np.cos(q[:, 1])
    share = 1.0 / (CART + POLE * sin**2)
    x_drift = share * POLE * sin * (LENGTH * v[:, 1] ** 2 - GRAVITY * cos)
    theta_drift = (GRAVITY * sin - cos * x_drift) / LENGTH
    gain = np.stack([share, -cos * share / LENGTH], axis=1)[:, :, None]
    return np.stack([x_drift, theta_drift], axis=1), gain


def test_a_cart_that_carries_a_swinging_pole_stays_on_its_track() -> None:
    track, dt, worlds, error, random = 0.8, 0.01, 16, 3.0, np.random.default_rng(0)
    barrier = AcceleratedHalfSpaces(
        np.array([[1.0, 0.0], [-1.0, 0.0]]), np.full(2, -track), ["left", "right"], cart_pole, gain_bound=3.0,
        period=dt, decay=2.0, gamma=0.4, largest_acceleration=20.0, acceleration_error=error,
    )  # fmt: skip
    safety = SafetyFilter(
        [barrier], np.array([-20.0]), np.array([20.0]), lambda state: -10.0 * state["joint_velocity"][:, :1]
    )
    q, v, furthest = np.zeros((worlds, 2)), np.zeros((worlds, 2)), np.zeros(worlds)
    q[:, 1] = random.uniform(0, 6, worlds)

    def acceleration(force: np.ndarray) -> np.ndarray:
        drift, gain = cart_pole(q, v)
        return drift + (gain @ force[:, :, None])[..., 0]

    for step in range(300):
        wanted = random.choice([-40.0, 40.0], (worlds, 1))
        wanted[:8] = 40.0 if step % 150 < 75 else -40.0
        state = {"joint_position": torch.from_numpy(q), "joint_velocity": torch.from_numpy(v)}
        force = safety.command(torch.from_numpy(wanted), state).numpy()
        told = acceleration(force)[:, 0]
        for _ in range(8):
            a = acceleration(force)
            assert (np.abs(a[:, 0] - told) <= error).all()  # what the barrier was told is true
            v = v + dt / 8 * a
            q = q + dt / 8 * v
            furthest = np.maximum(furthest, np.abs(q[:, 0]))
    assert (furthest <= track).all()
    assert (furthest[:8] > 0.6 * track).all()
    assert safety.counts["softened"] == 0


# --- failures -----------------------------------------------------------------------------------------------------


def test_walls_that_exclude_each_other_are_missed_evenly_and_counted() -> None:
    safety = walls([[1.0, 0.0], [-1.0, 0.0]], [0.2, 0.2])  # x >= 0.2 and x <= -0.2
    safe, found = safety.filter(tensor([0.05, 0.3]), AT_ORIGIN)
    assert outcomes(found) == ["softened"] and safety.counts["softened"] == 1
    torch.testing.assert_close(safe, tensor([0.0, 0.3]), atol=1e-3, rtol=0.0)
    assert found.slack() == pytest.approx(0.1, abs=1e-3)


def test_rigid_walls_that_exclude_each_other_leave_the_last_command_and_then_the_brake() -> None:
    safety = walls([[1.0, 0.0], [-1.0, 0.0]], [-1.0, -1.0], slack_weight=math.inf, error=0.1)
    first, _ = safety.filter(tensor([0.2, -0.4]), AT_ORIGIN)
    pinched = {"joint_position": tensor([20.0, 0.0])}  # so far outside that the box ends before the row is met
    again, found = safety.filter(tensor([0.2, 0.4]), pinched)
    assert found.failed.all() and torch.equal(again, first)
    for _ in range(2):
        assert torch.equal(safety.filter(tensor([0.2, 0.4]), pinched)[0], tensor([0.0, 0.0]))
    safety.filter(tensor([0.1, 0.1]), AT_ORIGIN)  # trusted again, and remembered again
    again, _ = safety.filter(tensor([0.2, 0.4]), pinched)
    assert torch.equal(again, tensor([0.1, 0.1]))
    assert safety.counts == {"passed": 2, "not solved": 4, "repeated": 2, "braked": 2}


def liar(problem: QuadraticProgram) -> Solution:
    """Feasible, and claims to be optimal, but stops short of the nearest point."""
    right = solve(problem)
    return dataclasses.replace(right, x=right.x + 0.03 * np.eye(len(right.x))[0])


def test_a_wrong_point_that_its_solver_calls_optimal_is_caught() -> None:
    honest, lying = walls([[1.0, 0.0]], [0.0]), walls([[1.0, 0.0]], [0.0], solver=liar)
    assert outcomes(honest.filter(tensor([-1.0, 1.0]), AT_ORIGIN)[1]) == ["changed"]
    safe, found = lying.filter(tensor([-1.0, 1.0]), AT_ORIGIN)
    assert outcomes(found) == ["not solved"]
    assert torch.equal(safe, tensor([0.0, 0.0])) and lying.counts["braked"] == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_stops_its_own_world_only(bad: float) -> None:
    safety, q = walls([[1.0, 0.0]], [-1.0]), torch.zeros(3, 2, dtype=torch.float64)
    wanted = tensor([0.1, 0.1], [0.2, 0.2], [0.3, 0.3])
    safety.filter(wanted, {"joint_position": q})
    wanted[0, 1], q[1, 0] = bad, bad
    safe, found = safety.filter(wanted, {"joint_position": q})
    assert outcomes(found) == ["not finite", "not finite", "passed"]
    torch.testing.assert_close(safe, tensor([0.1, 0.1], [0.2, 0.2], [0.3, 0.3]))  # the first two from before
    safe, _ = safety.filter(wanted, {"joint_position": q})
    torch.testing.assert_close(safe, tensor([0.0, 0.0], [0.0, 0.0], [0.3, 0.3]))
    assert safety.counts["not finite"] == 4 and safety.counts["braked"] == 2


def test_a_curved_row_that_is_not_met_after_the_last_round_is_a_failure() -> None:
    random, seen = torch.Generator().manual_seed(0), {}
    q = tensor(*HOME_QPOS) + 0.2 * torch.randn(300, 6, generator=random, dtype=torch.float64)
    wanted = torch.randn(300, 6, generator=random, dtype=torch.float64)
    for rounds in (1, 10):
        safety = so101_filter(0.0, rounds=rounds)
        found = safety.filter(50.0 * wanted, {"joint_position": q})[1]
        seen[rounds] = set(outcomes(found))
        assert [name == "not converged" for name in outcomes(found)] == found.failed.tolist()
    assert seen == {1: {"changed", "not converged"}, 10: {"changed"}}


def test_the_shape_may_not_change_and_the_device_is_the_cpu() -> None:
    safety = walls([[1.0, 0.0]], [-1.0])
    safety.filter(tensor([0.1, 0.1]), AT_ORIGIN)
    with pytest.raises(FermoError, match="call reset"):
        safety.filter(torch.zeros(2, 2), {"joint_position": torch.zeros(2, 2).double()})
    with pytest.raises(FermoError, match="on meta"):
        safety.filter(torch.zeros(1, 2, device="meta"), AT_ORIGIN)


@pytest.mark.parametrize(
    "wrong", [{"repeats": -1}, {"rounds": 0}, {"tolerance": 0.0}, {"barriers": []}, {"high": np.array([-10.0, 9.0])}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict) -> None:
    barrier = JointHalfSpaces(np.array([[1.0, 0.0]]), np.zeros(1), ["wall"], period=1.0)
    whole = {"barriers": [barrier], "low": np.full(2, -9.0), "high": np.full(2, 9.0), "brake": stand_still}
    with pytest.raises(FermoError):
        SafetyFilter(**whole | wrong)
