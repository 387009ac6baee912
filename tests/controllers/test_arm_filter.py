"""An arm that is given goals: the goals stay inside, and a servo that lags and sags is not led out."""

from __future__ import annotations

import itertools
import math

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from fermo.assets.scenes.so101 import HOME_QPOS, JOINT_NAMES, TOOL_SITE, so101_scene
from fermo.assets.so101_plant import JOINT_HIGH, JOINT_LOW, RATE_HZ
from fermo.controllers import projection
from fermo.controllers.arm_filter import ArmFilter
from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.controllers.kinematics import SerialChain
from fermo.controllers.projection import CHANGED, NOT_CONVERGED, NOT_FINITE, PASSED
from fermo.controllers.safety_limiter import SafetyLimiter, SafetyLimits
from fermo.errors import FermoError

CHAIN = SerialChain.from_model(so101_scene(with_cube=False).compile(), TOOL_SITE)
LOW, HIGH = torch.tensor(JOINT_LOW, dtype=torch.float64), torch.tensor(JOINT_HIGH, dtype=torch.float64)
HOME = torch.tensor(HOME_QPOS, dtype=torch.float64)
FLOOR = 0.03


def made(**changes) -> ArmFilter:
    config = ArmFilterConfig(half_spaces=((0.0, 0.0, 1.0, FLOOR),), **changes)
    return ArmFilter(config, CHAIN, names=JOINT_NAMES, low=JOINT_LOW, high=JOINT_HIGH, rate_hz=RATE_HZ)


def height(q: Tensor) -> Tensor:
    return CHAIN.forward(q[:, :5])[0][:, 2] - FLOOR


def wild(random: torch.Generator, worlds: int) -> Tensor:
    return LOW + (HIGH - LOW) * torch.rand(worlds, 6, generator=random, dtype=torch.float64)


@settings(max_examples=6, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), speed=st.floats(0.1, 1.0), sag=st.floats(0.0, 0.04))
def test_goals_stay_inside_whatever_is_asked_and_measured(seed: int, speed: float, sag: float) -> None:
    random, worlds, safety = torch.Generator().manual_seed(seed), 16, made()
    limiter = SafetyLimiter(SafetyLimits(low=JOINT_LOW, high=JOINT_HIGH))
    q = HOME + 0.1 * torch.randn(worlds, 6, generator=random, dtype=torch.float64)
    q = torch.where(height(q)[:, None] > 0, q, HOME)
    targets = [wild(random, worlds) for _ in range(5)]
    for step in range(50):
        goal, _ = safety.filter(targets[step // 10], q)
        assert (height(goal) >= -1e-6).all()
        limited, _ = limiter.limit(goal, q)
        torch.testing.assert_close(limited, goal, atol=1e-9, rtol=0.0)  # the limiter behind it has nothing left to do
        q = q + speed * (goal - sag - q)  # a servo that lags, and hangs lower
    assert safety.counts["softened"] == safety.counts["not solved"] == 0


def test_an_arm_that_lags_is_not_led_through_the_floor() -> None:
    down = torch.tensor([[0.0, 0.9, 0.2, 0.8, 0.0, 0.0]], dtype=torch.float64)
    lowest = {}
    for gamma in (0.25, 1.0):
        safety, q, v, lowest[gamma] = made(gamma=gamma), HOME[None], torch.zeros(1, 6).double(), math.inf
        for _ in range(60):
            goal, _ = safety.filter(down, q)
            for _ in range(20):  # a servo of 4 Hz with some overshoot, stepped at 500 Hz
                v = v + 0.002 * (630.0 * (goal - q) - 30.0 * v)
                q = q + 0.002 * v
                lowest[gamma] = min(lowest[gamma], float(height(q)))
    assert lowest[0.25] >= -1e-3
    assert lowest[1.0] < lowest[0.25]


def test_what_is_safe_passes_bit_for_bit_and_what_is_not_finite_holds_the_goal() -> None:
    safety = made()
    wanted = (HOME + torch.tensor([0.1, -0.1, 0.05, 0.0, 0.1, -0.1], dtype=torch.float64))[None].float()
    safe, _ = safety.filter(wanted, HOME[None])
    assert torch.equal(safe, wanted)
    for _ in range(3):
        held, found = safety.filter(torch.full_like(wanted, math.nan), HOME[None])
        assert torch.equal(held, wanted) and found.outcome[0] == NOT_FINITE


def test_a_pose_that_was_pushed_too_near_stops_the_approach_and_not_the_retreat() -> None:
    low = torch.tensor([[0.0, -0.55, 0.9, 1.0, 0.0, 1.0]], dtype=torch.float64)
    assert -0.05 < height(low).item() < 0.0
    for lift, moves in ((-0.1, True), (0.1, False)):
        safety, ask = made(), torch.tensor([[0.0, lift, 0.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
        safety.reset(pose=HOME[None])
        goal, _ = safety.filter(HOME + ask, low)
        assert height(low + goal - HOME).item() >= height(low).item() - 1e-9
        assert torch.equal(goal, HOME + ask) == moves


def test_a_goal_along_a_curved_wall_is_found_though_whole_steps_swing_past_it(monkeypatch: pytest.MonkeyPatch) -> None:
    q = torch.tensor([[0.384, -0.477, 0.572, 1.658, -0.467, 1.116]], dtype=torch.float64)
    wanted = torch.tensor([[0.9, 0.25, 1.55, 1.45, 0.5, 1.12]], dtype=torch.float64)
    goal, found = made().filter(wanted, q)
    assert found.outcome[0] == CHANGED and height(goal).item() >= 0.75 * height(q).item() - 1e-6
    monkeypatch.setattr(projection, "_HALF_STEP", 1000)
    goal, found = made().filter(wanted, q)
    assert found.outcome[0] == NOT_CONVERGED and torch.equal(goal, q)


def test_an_arm_that_starts_outside_climbs_back_whatever_is_asked() -> None:
    q, safety = torch.tensor([[0.0, -0.45, 0.9, 1.0, 0.0, 1.0]], dtype=torch.float64), made()
    down = torch.tensor([[0.0, 0.9, 0.2, 0.8, 0.0, 0.0]], dtype=torch.float64)
    heights = [height(q).item()]
    for _ in range(30):
        q, _ = safety.filter(down, q)
        heights.append(height(q).item())
    assert heights[0] < -0.01
    assert all(later >= 0.75 * now - 1e-6 for now, later in itertools.pairwise(heights[:10]))
    assert heights[-1] >= -1e-4


def test_reset_begins_from_the_pose_of_those_worlds_only() -> None:
    safety, q = made(), HOME.expand(2, 6)
    far = HIGH.expand(2, 6)
    first, _ = safety.filter(far, q)
    safety.reset(torch.tensor([True, False]), pose=q)
    second, _ = safety.filter(far, q)
    torch.testing.assert_close(second[0], first[0])
    assert (second[1] != first[1]).any()
    safety.reset()
    third, _ = safety.filter(far, q)
    torch.testing.assert_close(third, first)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_an_action_that_moves_by_less_than_the_clearance_still_passes(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    wanted = HOME + 0.04 * torch.randn(32, 6, generator=random, dtype=torch.float64)
    _, found = made().filter(wanted, HOME.expand(32, 6))
    clear = torch.from_numpy(found.clearance)[:, None] / RATE_HZ
    shift = torch.nn.functional.normalize(torch.randn(32, 6, generator=random, dtype=torch.float64))
    moved = wanted + 0.999 * clear.clamp(min=0.0) * shift
    _, after = made(max_velocity=1e3).filter(moved, HOME.expand(32, 6))
    assert ((after.outcome == PASSED) | (found.clearance < 0)).all()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"half_spaces": ((0.0, 0.0, 2.0, 0.1),)}, "unit normal"),
        ({"half_spaces": ((0.0, 0.0, 1.0, math.nan),)}, "unit normal"),
        ({"half_spaces": ()}, "at least one half-space"),
        ({"gamma": 0.0}, "gamma"),
        ({"error": -1.0}, "error"),
        ({"max_velocity": math.inf}, "max_velocity"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict, told: str) -> None:
    with pytest.raises(FermoError, match=told):
        ArmFilterConfig(**wrong)
