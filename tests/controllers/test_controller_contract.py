"""What every controller keeps to; a new one is appended to CONTROLLERS and inherits all of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from fermo.controllers.arm_filter import ArmFilter
from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.controllers.barriers import JointHalfSpaces
from fermo.controllers.base import Controller
from fermo.controllers.inverse_kinematics import InverseKinematics
from fermo.controllers.joint_impedance import JointImpedance, JointImpedanceConfig
from fermo.controllers.kinematics import SerialChain
from fermo.controllers.safety_filter import SafetyFilter, stand_still
from tests.controllers.chains import SEVEN_AXES, compile_model

CHAIN = SerialChain.from_model(compile_model(SEVEN_AXES), "tool")
N, JOINTS = 5, 7


@dataclass(frozen=True)
class Case:
    make: Callable[[], Controller]
    target: tuple[int, ...]


def inverse_kinematics() -> Controller:
    return InverseKinematics(CHAIN, torch.zeros(JOINTS, dtype=torch.float64))


def impedance() -> Controller:
    values = tuple(5.0 for _ in range(JOINTS))
    return JointImpedance(CHAIN, JointImpedanceConfig(stiffness=values, damping=values, torque_limit=values))


def safety_filter() -> Controller:
    barrier = JointHalfSpaces.limits(CHAIN.low.numpy(), CHAIN.high.numpy(), CHAIN.joint_names, period=0.1)
    speed = np.full(JOINTS, 2.0)
    return SafetyFilter([barrier], -speed, speed, stand_still)


def arm_filter() -> Controller:
    config = ArmFilterConfig(half_spaces=((0.0, 0.0, 1.0, 0.9), (1.0, 0.0, 0.0, -0.1)))
    low, high = CHAIN.low.tolist(), CHAIN.high.tolist()
    return ArmFilter(config, CHAIN, names=CHAIN.joint_names, low=low, high=high, rate_hz=25.0)


CONTROLLERS = (
    Case(inverse_kinematics, (12,)),
    Case(impedance, (2, JOINTS)),
    Case(safety_filter, (JOINTS,)),
    Case(arm_filter, (JOINTS,)),
)


@pytest.fixture(params=CONTROLLERS, ids=lambda case: case.make.__name__)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


def ask(case: Case, seed: int, worlds: slice = slice(None)) -> tuple[Tensor, dict[str, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    target = torch.randn(N, *case.target, generator=random, dtype=torch.float64)
    state = {
        name: 0.5 * torch.randn(N, JOINTS, generator=random, dtype=torch.float64)
        for name in ("joint_position", "joint_velocity")
    }
    return target[worlds], {name: value[worlds] for name, value in state.items()}


def test_one_command_a_world_finite_and_on_its_own_memory(case: Case) -> None:
    target, state = ask(case, 0)
    before = target.clone()
    command = case.make().command(target, state)
    assert command.shape == (N, JOINTS)
    assert command.isfinite().all()
    assert torch.equal(target, before)


def test_a_world_gets_the_same_alone_as_among_others(case: Case) -> None:
    among, alone = case.make(), case.make()
    for seed in range(3):
        together = among.command(*ask(case, seed))
        torch.testing.assert_close(alone.command(*ask(case, seed, slice(2, 3)))[0], together[2], atol=1e-7, rtol=0.0)


def test_reset_makes_a_controller_new_and_touches_no_other_world(case: Case) -> None:
    used = case.make()
    fresh = used.command(*ask(case, 0))
    used.command(*ask(case, 1))
    used.reset()
    torch.testing.assert_close(used.command(*ask(case, 0)), fresh)
    touched, untouched = case.make(), case.make()
    for controller in (touched, untouched):
        controller.command(*ask(case, 1))
    touched.reset(torch.tensor([True, False, False, False, False]))
    after, expected = touched.command(*ask(case, 0)), untouched.command(*ask(case, 0))
    torch.testing.assert_close(after[1:], expected[1:])
    torch.testing.assert_close(after[0], fresh[0])
