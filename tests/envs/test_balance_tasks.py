"""CartPole and Pendulum: their mechanics and costs against closed forms."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.tasks.cart_pole import CartPole, CartPoleConfig
from fermo.envs.tasks.pendulum import Pendulum, PendulumConfig
from fermo.errors import FermoError

REST = CartPoleConfig(start=(0.0, 0.0, 0.0, 0.0))


def one_step(task: CartPole | Pendulum, action: float, worlds: int = 8) -> tuple[VectorEnv, tuple]:
    env = VectorEnv(task, worlds, autoreset_mode=AutoresetMode.DISABLED, backend_options={"num_threads": 1})
    env.reset()
    return env, env.step(torch.full((worlds, 1), action))


def state(env: VectorEnv) -> Tensor:
    return torch.cat([env.sim["qpos"], env.sim["qvel"]], dim=1)


def test_the_cart_pole_falls_as_the_textbook_says() -> None:
    """Linearised upright: (M + m) x'' + m l a'' = F - b x',  m l x'' + (I + m l^2) a'' = m g l a - d a'."""
    model = CartPole(REST).model
    M, m = (float(model.body(name).mass[0]) for name in ("cart", "pole"))
    length, inertia = float(model.body("pole").ipos[2]), float(model.body("pole").inertia[0])
    b, d = model.dof_damping
    mass = np.array([[M + m, m * length], [m * length, inertia + m * length**2]])
    force = np.array([[0.0, 0.0, -b, 0.0], [0.0, m * 9.81 * length, 0.0, -d]])
    expected = np.linalg.solve(mass, np.c_[force, [1.0, 0.0]])
    data, found = mujoco.MjData(model), np.zeros((2, 5))
    for column, step in enumerate(1e-6 * np.eye(5)):
        for sign in (1.0, -1.0):
            data.qpos[:], data.qvel[:], data.ctrl[:] = sign * step[:2], sign * step[2:4], sign * step[4:]
            mujoco.mj_forward(model, data)
            found[:, column] += sign * data.qacc / 2e-6
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_frictionless_pendulum_keeps_its_energy() -> None:
    model = Pendulum().model
    model.dof_damping[:] = 0.0
    model.opt.timestep = 1e-4
    data = mujoco.MjData(model)
    data.qpos[0], data.qvel[0] = 2.0, 0.5
    mujoco.mj_forward(model, data)
    level = float(model.body_mass[1] * 9.81 * model.body_ipos[1, 2])

    def energy() -> float:
        return 0.5 * float(data.M[0]) * data.qvel[0] ** 2 + level * math.cos(data.qpos[0])

    before = energy()
    for _ in range(5_000):
        mujoco.mj_step(model, data)
    assert energy() == pytest.approx(before, abs=2e-3)
    assert level == pytest.approx(4.905)  # more than the motor's 2 N m


def test_cart_pole_rewards_are_the_quadratic_stage_cost_of_the_state_reached() -> None:
    task = CartPole(CartPoleConfig(state_cost=(1.0, 2.0, 3.0, 4.0), force_cost=0.5))
    env, (obs, reward, _, _, info) = one_step(task, 3.0)
    s = state(env)
    torch.testing.assert_close(obs, s.float())
    cost = (s.square() * torch.tensor([1.0, 2.0, 3.0, 4.0])).sum(dim=1) + 0.5 * 9.0
    torch.testing.assert_close(reward.double(), -cost, atol=1e-6, rtol=1e-6)
    assert set(info["reward_terms"]) == {"state", "force", "fall"}


def test_a_fall_ends_the_episode_and_is_paid_for_once() -> None:
    task = CartPole(CartPoleConfig(start=(0.0, 0.0, 0.0, 0.0), fall_angle=0.3, fall_cost=7.0))
    env = VectorEnv(task, 1, autoreset_mode=AutoresetMode.DISABLED, backend_options={"num_threads": 1})
    env.reset()
    for _ in range(task.max_steps):
        _, _, terminated, _, info = env.step(torch.full((1, 1), 2.0))
        leaning = env.sim["qpos"][0, 1].abs() > 0.3
        assert bool(terminated) == bool(leaning) == bool(info["reward_terms"]["fall"] == -7.0)
        if leaning:
            break
    assert leaning and not info["success"]


def test_leaving_the_track_is_a_fall() -> None:
    _, (_, _, terminated, _, _) = one_step(CartPole(CartPoleConfig(track=1e-4)), 0.0)
    assert terminated.all()


@pytest.mark.parametrize("task", [CartPole(), Pendulum()], ids=lambda task: task.name)
def test_more_than_the_motor_has_is_not_given(task: CartPole | Pendulum) -> None:
    strongest, wild = (one_step(task, action)[0] for action in (task.high, 100.0 * task.high))
    assert torch.equal(state(strongest), state(wild))
    assert torch.equal(wild.sim["ctrl"], torch.full((8, 1), task.high, dtype=torch.float64))


def test_pendulum_costs_are_gymnasiums() -> None:
    env, (obs, reward, terminated, _, _) = one_step(Pendulum(), 1.5, worlds=32)
    angle = torch.atan2(obs[:, 1], obs[:, 0]).double()
    velocity = env.sim["qvel"][:, 0]
    expected = -(angle.square() + 0.1 * velocity.square() + 0.001 * 1.5**2)
    torch.testing.assert_close(reward.double(), expected, atol=1e-5, rtol=1e-5)
    assert not terminated.any()


def test_a_turn_more_is_the_same_pendulum() -> None:
    task = Pendulum(PendulumConfig(start_angle=0.0, start_velocity=0.0))
    env = VectorEnv(task, 2, autoreset_mode=AutoresetMode.DISABLED, backend_options={"num_threads": 1})
    env.reset()
    env.sim["qpos"][:] = torch.tensor([[0.3], [0.3 + 2 * math.pi]])
    obs, reward, *_ = env.step(torch.zeros(2, 1))
    torch.testing.assert_close(obs[0], obs[1])
    torch.testing.assert_close(reward[0], reward[1])


def test_starts_fill_the_box_and_nothing_else() -> None:
    config = CartPoleConfig(start=(0.5, 0.1, 0.2, 0.0))
    env = VectorEnv(CartPole(config), 256)
    found = env.reset()[0].abs().amax(dim=0)
    limits = torch.tensor(config.start)
    assert (found <= limits + 1e-7).all() and (found >= 0.95 * limits).all()


@pytest.mark.parametrize(("make", "wrong"), [
    (CartPoleConfig, {"start": (-0.1, 0.0, 0.0, 0.0)}), (CartPoleConfig, {"force_cost": 0.0}),
    (CartPoleConfig, {"fall_angle": 4.0}), (PendulumConfig, {"torque_cost": -1.0}),
    (PendulumConfig, {"episode_s": 0.0}),
])  # fmt: skip
def test_configs_that_cannot_be_are_refused(make: type, wrong: dict) -> None:
    with pytest.raises(FermoError, match="must"):
        make(**wrong)
