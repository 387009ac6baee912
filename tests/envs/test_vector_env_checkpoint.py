"""A batch that goes on from its saved state repeats the one that never stopped, bit by bit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from fermo.envs.core.backend import BackendError
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.actuation import ActionDelay, ActionNoise, ActionSaturation
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.dynamics import ActuatorForceLimit, Friction, JointDamping, ServoGain
from fermo.envs.perturbations.schedule import EpisodeDraw, RandomWalk
from fermo.envs.perturbations.sensing import ObservationDelay, ObservationDropout, ObservationNoise
from fermo.envs.perturbations.wrench import Push
from fermo.envs.registry import TASKS, make_task

N = 4
MODES = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)


def batch(name: str, perturbations: Sequence[Perturbation] = (), mode: AutoresetMode = MODES[0], seed: int = 3,
          num_envs: int = N, first_world: int = 0) -> VectorEnv:  # fmt: skip
    numbers = torch.arange(first_world, first_world + num_envs)
    task = make_task(name)
    return VectorEnv(task, num_envs, seed=seed, autoreset_mode=mode, perturbations=perturbations, worlds=numbers)


def actions(env: VectorEnv, count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    low, high = (torch.as_tensor(bound) for bound in (env.single_action_space.low, env.single_action_space.high))  # type: ignore[attr-defined]
    return [low + (high - low) * torch.rand(env.num_envs, len(low), generator=generator) for _ in range(count)]


def assert_same_future(first: VectorEnv, second: VectorEnv, steps: int) -> None:
    for action in actions(first, steps):
        ours, theirs = first.step(action), second.step(action)
        for a, b in zip(ours[:4], theirs[:4], strict=True):
            assert torch.equal(a, b)
        assert torch.equal(first.backend.get_state(), second.backend.get_state())
        assert all(torch.equal(ours[4]["reward_terms"][name], term) for name, term in theirs[4]["reward_terms"].items())


DEAR = ("Standup", "Robosuite")  # many contacts, and models that take seconds to load
EVERY_TASK = [pytest.param(name, MODES[0], marks=[pytest.mark.slow] if any(word in name for word in DEAR) else [])
              for name in TASKS]  # fmt: skip


@pytest.mark.parametrize(("name", "mode"), [*EVERY_TASK, ("Hopper", MODES[1]), ("SO101-PickCube", MODES[1])])
def test_every_task_goes_on_as_if_nothing_had_happened(name: str, mode: AutoresetMode, tmp_path: Path) -> None:
    if "Robosuite" in name:
        pytest.importorskip("robosuite")
    env = batch(name, mode=mode)
    env.reset()
    for action in actions(env, 25):  # far enough that worlds of the falling ones have begun anew
        env.step(action)
    save_file(env.state_dict(), tmp_path / "state.safetensors")
    fresh = batch(name, mode=mode, seed=8, first_world=100)
    fresh.load_state_dict(load_file(tmp_path / "state.safetensors"))
    assert fresh.seed == env.seed and torch.equal(fresh.random.worlds, env.random.worlds)
    assert_same_future(env, fresh, 25)


def everything() -> list[Perturbation]:
    force = torch.linspace(0.5, 1.5, N)
    return [Friction(torch.linspace(0.2, 2.0, N)), RandomWalk(JointDamping(1.0), rate=0.5), ActuatorForceLimit(force),
            ActionNoise(0.1), ActionDelay(0.06), ActionSaturation(2.0), Push(2.0), ObservationNoise(0.01),
            ObservationDelay(0.05), ObservationDropout(0.3), EpisodeDraw(ServoGain, low=0.8, high=1.2)]  # fmt: skip


@pytest.mark.parametrize("saved_after", [0, 1, 12])
def test_what_perturbations_remember_and_set_is_kept(saved_after: int) -> None:
    env, fresh = batch("SO101-PickCube", everything()), batch("SO101-PickCube", everything(), seed=4)
    env.reset()
    for action in actions(env, saved_after):
        env.step(action)
    fresh.load_state_dict(env.state_dict())
    assert_same_future(env, fresh, 20)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 40), st.integers(0, 40))
def test_it_does_not_matter_what_the_loading_batch_did_before(saved_after: int, did: int) -> None:
    env, used = batch("Hopper"), batch("Hopper", seed=9)
    for each, count in ((env, saved_after), (used, did)):
        each.reset()
        for action in actions(each, count):
            each.step(action)
    used.load_state_dict(env.state_dict())
    assert_same_future(env, used, 5)


def test_a_state_is_a_copy_and_can_be_gone_back_to() -> None:
    env = batch("Ant", [Push(5.0, body="torso", period_s=0.5)])
    env.reset()
    state = env.state_dict()
    kept = {name: tensor.clone() for name, tensor in state.items()}
    first = [env.step(action)[1] for action in actions(env, 10)]
    assert all(torch.equal(kept[name], tensor) for name, tensor in state.items())
    env.load_state_dict(state)
    assert all(torch.equal(a, env.step(action)[1]) for a, action in zip(first, actions(env, 10), strict=True))


def test_a_parameter_that_only_the_loading_batch_set_is_put_back() -> None:
    env, other = batch("Hopper"), batch("Hopper")
    env.reset()
    other.backend.set_param("body_mass", 2.0 * other.backend.get_param("body_mass"))
    other.load_state_dict(env.state_dict())
    assert_same_future(env, other, 5)


def test_a_frozen_world_stays_frozen(tmp_path: Path) -> None:
    env = VectorEnv(make_task("Hopper"), N, autoreset_mode=AutoresetMode.DISABLED, dump_folder=tmp_path)
    fresh = VectorEnv(make_task("Hopper"), N, autoreset_mode=AutoresetMode.DISABLED, dump_folder=tmp_path)
    env.reset(seed=1)
    env.backend.read("qvel")[2] = 1e9
    with pytest.warns(UserWarning, match="diverged"):
        env.step(torch.zeros(N, 3))
    fresh.load_state_dict(env.state_dict())
    assert fresh.backend.failed.tolist() == [False, False, True, False]
    assert_same_future(env, fresh, 5)


@pytest.mark.parametrize(
    "make, told",
    [
        (lambda: batch("Hopper", num_envs=3), "4 worlds"),
        (lambda: batch("HalfCheetah"), "numbers"),
    ],
)
def test_a_state_of_another_batch_is_refused(make: Callable[[], VectorEnv], told: str) -> None:
    env = batch("Hopper", [ObservationDelay(0.1)])
    with pytest.raises(BackendError, match="reset"):
        env.state_dict()
    env.reset()
    with pytest.raises(BackendError, match=told):
        make().load_state_dict(env.state_dict())
    with pytest.raises(BackendError, match="observation_delay"):
        batch("Hopper").load_state_dict(env.state_dict())
