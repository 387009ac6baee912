"""A captured step does what the eager one does, and nothing in it could keep a CUDA graph from being recorded."""

from __future__ import annotations

import math

import pytest
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from fermo.envs.core.backend import BackendError
from fermo.envs.core.captured_step import ClosedLoop
from fermo.envs.core.memory import Memory, same_addresses
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.dynamics import JointDamping
from fermo.envs.perturbations.registry import make_perturbation
from fermo.envs.perturbations.schedule import EpisodeDraw, LinearDrift
from fermo.envs.registry import make_task
from tests.envs.no_sync import no_sync

pytest.importorskip("mujoco_warp")

N = 3
KITCHEN = pytest.param("fermo/FrankaKitchen-v0", marks=pytest.mark.slow)  # minutes to compile its kernels
CASES = ("fermo/SO101-PickCube-v0", "fermo/Hopper-v5", "fermo/BlockPush-v0")
WHOLE = [pytest.param(name, marks=[pytest.mark.slow] if "Block" in name else []) for name in CASES]  # 50 substeps
WHOLE.append(KITCHEN)
MODES = (AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP)


def perturbations(task: str) -> list:
    """Something of every kind, so that every hook runs inside the step."""
    kinds = {"observation_noise": 0.01, "observation_delay": 0.05, "action_delay": 0.03, "observation_dropout": 0.3,
             "friction": 0.7}  # fmt: skip
    if "PickCube" in task:
        kinds |= {"push": 3.0, "object_move": 0.02, "cube_mass": 0.05}
    made = [make_perturbation(kind, severity) for kind, severity in kinds.items()]
    drawn = EpisodeDraw(JointDamping, low=0.8, high=1.2)
    return [*made, drawn, LinearDrift(make_perturbation("action_saturation", 5.0), rate=1.0)]


def make_env(task: str, captured: bool, mode: AutoresetMode) -> VectorEnv:
    made = make_task(task)
    made.max_steps = 4  # so that episodes end
    return VectorEnv(made, N, backend="warp", seed=3, captured=captured, autoreset_mode=mode,
                     perturbations=perturbations(task), backend_options={"device": "cpu"})  # fmt: skip


def actions(env: VectorEnv, count: int) -> Tensor:
    low, high = (torch.as_tensor(bound) for bound in (env.single_action_space.low, env.single_action_space.high))
    return low + (high - low) * torch.rand(count, N, len(low), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("task", WHOLE)
@pytest.mark.parametrize("mode", MODES)
def test_a_captured_step_is_the_eager_one(task: str, mode: AutoresetMode) -> None:
    envs = [make_env(task, captured, mode) for captured in (False, True)]
    starts = [env.reset()[0] for env in envs]
    torch.testing.assert_close(*starts, atol=0, rtol=0)
    ended = torch.zeros(N, dtype=torch.bool)
    for action in actions(envs[0], 11):
        eager, captured = (env.step(action) for env in envs)
        torch.testing.assert_close(eager, captured, atol=0, rtol=0)
        ended |= eager[3]
    assert ended.all()


@pytest.mark.parametrize("task", [*CASES, KITCHEN])
@pytest.mark.parametrize("mode", MODES)
def test_no_operation_of_the_step_waits_and_no_memory_moves(task: str, mode: AutoresetMode) -> None:
    env = make_env(task, True, mode)
    env.reset()
    play = actions(env, 6)
    env.step(play[0])
    memory = Memory(env.roots())
    for action in play[1:]:  # over the end of an episode
        with no_sync():
            env.eager_step(action)
            memory.settle()
    assert same_addresses(memory)
    assert {"counters.episode", "counters.steps"} <= set(memory.slots)
    assert len(memory.slots) > 8


def test_the_policy_may_be_inside() -> None:
    env, loop_env = (make_env("fermo/Hopper-v5", True, AutoresetMode.SAME_STEP) for _ in range(2))
    weights = torch.linspace(-1.0, 1.0, 11 * 3, dtype=torch.float64).reshape(11, 3)
    loop = ClosedLoop(loop_env, lambda obs: torch.tanh(obs @ weights).float())
    obs, inside = env.reset()[0], loop.reset()[0]
    torch.testing.assert_close(obs, inside, atol=0, rtol=0)
    for _ in range(6):
        result = env.step(torch.tanh(obs @ weights).float())
        obs = result[0]
        torch.testing.assert_close(result, loop.step(), atol=0, rtol=0)


def test_results_outlive_the_next_step() -> None:
    env = make_env("fermo/Hopper-v5", True, AutoresetMode.SAME_STEP)
    env.reset()
    play = actions(env, 2)
    first = env.step(play[0])
    kept = first[0].clone(), first[4]["final_obs"].clone()
    env.step(play[1])
    assert torch.equal(first[0], kept[0]) and torch.equal(first[4]["final_obs"], kept[1])


def test_an_action_that_is_not_finite_is_told_at_the_next_check() -> None:
    env = make_env("fermo/Hopper-v5", True, AutoresetMode.SAME_STEP)
    env.reset()
    action = actions(env, 1)[0]
    action[1, 0] = math.nan
    obs = env.step(action)[0]
    assert torch.isfinite(obs).all()
    with pytest.raises(BackendError, match=r"world\(s\) \[1\] is not finite"):
        env.check()
    env.check()  # told once


def test_the_cpu_back_end_is_not_captured() -> None:
    with pytest.raises(BackendError, match="cannot be captured"):
        VectorEnv(make_task("Hopper-v5"), 1, captured=True)
