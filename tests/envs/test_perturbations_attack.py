"""The gradient attack against closed forms, and schedules against arithmetic."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.dynamics import CubeMass, Friction
from fermo.envs.perturbations.dynamics_attack import DynamicsAttack
from fermo.envs.perturbations.gradient_attack import GradientAttack
from fermo.envs.perturbations.gradient_shift import GradientShift
from fermo.envs.perturbations.schedule import EpisodeDraw, LinearDrift, RandomWalk, RateLimitedAdversary
from fermo.envs.perturbations.sensing import ObservationBias, ObservationSignNoise
from fermo.envs.perturbations.wrench import Push
from fermo.envs.tasks.so101_pick_cube import PickCube
from fermo.errors import FermoError

TASK = PickCube()


def bare_env(num_envs: int) -> Any:
    """What an observation perturbation looks at: the worlds' random numbers and their steps."""
    worlds, zeros = torch.arange(num_envs), torch.zeros(num_envs, dtype=torch.int64)
    env = SimpleNamespace(num_envs=num_envs, device=torch.device("cpu"), steps=zeros)
    env.random = WorldRandom(0, worlds, zeros)
    return env


def attacked(attack: Perturbation, obs: Tensor) -> Tensor:
    env = bare_env(len(obs))
    attack.attach(env)
    return attack.observation(env, obs)


@given(seed=st.integers(0, 2**31), size=st.integers(1, 12))
@settings(max_examples=15, deadline=None)
def test_reaches_the_optimum_of_a_linear_map(seed: int, size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, size, generator=generator, dtype=torch.float64)
    scale = torch.rand(size, generator=generator, dtype=torch.float64) + 0.1
    obs = torch.randn(5, size, generator=generator, dtype=torch.float64)
    radius = torch.tensor([0.0, 0.01, 0.1, 1.0, 3.0])
    seen = attacked(GradientAttack(radius, policy_map=lambda o: o @ weight.T, scale=scale), obs)
    # max |w . delta| over the box is eps sum_i scale_i |w_i|, at a corner.
    torch.testing.assert_close(((seen - obs) @ weight.T).abs()[:, 0], radius.double() * (scale * weight.abs()).sum())
    assert torch.equal(seen[0], obs[0])


@given(seed=st.integers(0, 2**31))
@settings(max_examples=10, deadline=None)
def test_stays_in_the_box_and_beats_random_signs(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(shape, generator=generator) for shape in ((11, 16), (16, 6)))

    def policy(obs: Tensor) -> Tensor:
        return torch.tanh(obs @ first) @ second

    obs = torch.randn(32, 11, generator=generator)
    scale = torch.rand(11, generator=generator) + 0.1
    radius = 0.2 * torch.rand(32, generator=generator)
    attack, noise = GradientAttack(radius, policy_map=policy, scale=scale), ObservationSignNoise(radius, scale=scale)
    seen, random = attacked(attack, obs), attacked(noise, obs)
    limit = attack.channel_amplitude(obs)
    assert ((seen - obs).abs() <= limit * (1 + 1e-5) + 1e-6).all()
    torch.testing.assert_close((random - obs).abs(), limit, atol=1e-6, rtol=1e-4)
    change, by_chance = ((policy(o) - policy(obs)).norm(dim=1) for o in (seen, random))
    assert change.mean() > 1.2 * by_chance.mean()


def test_action_scale_decides_which_command_is_attacked() -> None:
    def policy(obs: Tensor) -> Tensor:
        return obs  # one channel per command

    obs = torch.zeros(4, 2)
    flat = GradientAttack(1.0, policy_map=lambda o: policy(o) * o.abs(), action_scale=torch.tensor([1.0, 1e6]))
    seen = attacked(flat, obs)
    torch.testing.assert_close(seen[:, 0].abs(), torch.ones(4))


def plan_through_a_linear_plant(seed: int, radius: float) -> tuple[float, list[float]]:
    """The cost that can still be reached after the planned first shift, and the costs of all corners.

    A quadratic cost of a linear closed loop is convex in the shifts, so its largest value is at a corner.
    """
    generator = torch.Generator().manual_seed(seed)
    a, b, k, x = torch.randn(4, generator=generator, dtype=torch.float64).tolist()
    horizon, obs = 3, torch.tensor([[x]], dtype=torch.float64)

    def costs(shifts: Any) -> float:
        state, total = x, 0.0
        for shift in shifts:
            state = a * state + b * k * (state + shift)
            total += state**2
        return total

    attack = DynamicsAttack(radius, policy_map=lambda o: k * o, step_map=lambda o, u: a * o + b * u,
                            cost=lambda o: o[:, 0].square(), horizon=horizon)  # fmt: skip
    corners = list(itertools.product((-radius, radius), repeat=horizon))
    first = float(attacked(attack, obs) - obs)
    assert abs(first) <= radius * (1 + 1e-12)
    return max(costs((first, *rest)) for _, *rest in corners), [costs(corner) for corner in corners]


@given(seed=st.integers(0, 2**31), radius=st.floats(0.01, 1.0))
@settings(max_examples=15, deadline=None)
def test_a_plan_stays_in_the_box_and_beats_chance(seed: int, radius: float) -> None:
    reached, corners = plan_through_a_linear_plant(seed, radius)
    assert reached >= sum(corners) / len(corners)


def test_most_plans_through_a_linear_plant_are_the_worst_of_all_corners() -> None:
    found = [plan_through_a_linear_plant(seed, 0.5) for seed in range(60)]
    assert sum(reached >= 0.999 * max(corners) for reached, corners in found) >= 57


def env_with(perturbation: Any, num_envs: int = 3) -> VectorEnv:
    env = VectorEnv(TASK, num_envs, seed=1, perturbations=[perturbation])
    env.reset()
    return env


HOLD = torch.tensor([[0.0, -1.0, 0.9, 1.2, 0.0, 1.0]]).expand(3, 6)


def test_linear_drift_follows_time_and_stops_at_the_bound() -> None:
    drift = LinearDrift(Friction(1.0), rate=-10.0)
    env = env_with(drift)
    for step in range(4):
        env.step(HOLD)
        expected = max(1.0 - 10.0 * 0.04 * step, Friction.low)
        assert drift.severity.tolist() == pytest.approx([expected] * 3)
        # The engine has it, not only the perturbation.
        torch.testing.assert_close(env.backend.get_param("geom_friction")[:, 0, 0], drift.severity)
    env.reset()
    assert drift.severity.tolist() == [1.0] * 3
    assert env.backend.get_param("geom_friction")[:, 0, 0].tolist() == [1.0] * 3


def test_random_walk_differs_between_worlds_and_repeats_with_the_seed() -> None:
    paths = []
    for _ in range(2):
        walk = RandomWalk(CubeMass(0.05), rate=0.5)
        env = env_with(walk)
        path = []
        for _ in range(6):
            env.step(HOLD)
            path.append(walk.severity.clone())
        paths.append(torch.stack(path))
    assert torch.equal(*paths)
    assert paths[0].unique().numel() > 10 and (paths[0] >= CubeMass.low).all()


def test_a_severity_is_drawn_for_each_world_and_episode_and_stays_for_it() -> None:
    drawn = EpisodeDraw(Friction, low=0.5, high=1.5)
    env = env_with(drawn, num_envs=3)
    first = drawn.severity.clone()
    env.step(HOLD)
    assert torch.equal(drawn.severity, first)
    torch.testing.assert_close(env.backend.get_param("geom_friction")[:, 0, 0], first)
    env.reset(options={"reset_mask": torch.tensor([True, False, True])})
    second = drawn.severity.clone()
    torch.testing.assert_close(env.backend.get_param("geom_friction")[:, 0, 0], second)
    assert second[1] == first[1]
    every = torch.cat([first, second[::2]])
    assert every.unique().numel() == 5 and ((every >= 0.5) & (every < 1.5)).all()
    again = EpisodeDraw(Friction, low=0.5, high=1.5)
    env_with(again, num_envs=3)
    assert torch.equal(again.severity, first)


def test_a_draw_outside_the_bounds_is_refused() -> None:
    with pytest.raises(FermoError, match="friction severity 99"):
        EpisodeDraw(Friction, low=0.5, high=99.0)
    with pytest.raises(FermoError, match="from low to high, got 2 to 1"):
        EpisodeDraw(Friction, low=2.0, high=1.0)


def test_adversary_moves_no_faster_than_its_rate() -> None:
    def far(env: VectorEnv) -> Tensor:
        return torch.full((env.num_envs,), 100.0)

    steered = RateLimitedAdversary(ObservationBias(0.0), target=far, rate=0.5)
    env = env_with(steered)
    for step in range(1, 5):
        env.step(HOLD)
        assert steered.severity.tolist() == pytest.approx([0.02 * step] * 3)


def test_a_schedule_passes_every_hook_on() -> None:
    pushed = LinearDrift(Push(1.0, duration_s=0.4, period_s=0.4), rate=1.0)
    env = env_with(pushed)
    gripper = env.backend.model.body("gripper").id
    for step in range(3):
        env.step(HOLD)
        force = env.sim["xfrc_applied"][:, gripper, :2].norm(dim=1)
        assert force.tolist() == pytest.approx([1.0 + 0.04 * step] * 3)


@given(seed=st.integers(0, 2**31), size=st.integers(1, 8))
@settings(max_examples=15, deadline=None)
def test_a_shift_changes_a_linear_map_by_its_norm(seed: int, size: int) -> None:
    """max |w . delta| over ``||delta / scale|| <= e`` is ``e ||scale * w||``, with the sign of the beat."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(1, size, generator=generator, dtype=torch.float64)
    scale = torch.rand(size, generator=generator, dtype=torch.float64) + 0.1
    obs = torch.randn(4, size, generator=generator, dtype=torch.float64)
    length, signs = torch.tensor([0.0, 0.1, 1.0, 3.0]), torch.tensor([[1.0], [1.0], [-1.0], [0.5]])
    shift = GradientShift(length, policy_map=lambda o: o @ weight.T, scale=scale, signs=signs)
    seen = attacked(shift, obs)
    expected = signs[:, 0] * length.double() * (scale * weight[0]).norm()
    torch.testing.assert_close(((seen - obs) @ weight.T)[:, 0], expected)
    torch.testing.assert_close(((seen - obs) / scale).norm(dim=1), (signs[:, 0] * length.double()).abs())
    assert torch.equal(seen[0], obs[0])


def test_a_shift_turns_round_on_its_beat() -> None:
    env = bare_env(1)
    shift = GradientShift(1.0, policy_map=lambda o: 2.0 * o)
    shift.attach(env)
    seen = []
    for step in range(48):
        env.steps = torch.full((1,), step)
        seen.append(float(shift.observation(env, torch.zeros(1, 1, dtype=torch.float64))))
    assert seen == ([1.0] * 12 + [-1.0] * 12) * 2


@pytest.mark.parametrize("signs", [torch.tensor(1.0), torch.tensor([2.0]), torch.tensor([]), torch.ones(3, 4)])
def test_beats_that_do_not_fit_are_refused(signs: Tensor) -> None:
    with pytest.raises(FermoError, match="signs"):
        GradientShift(1.0, policy_map=lambda o: o, signs=signs).attach(bare_env(2))
