"""Records the lives of some worlds of fermo's environment, see `Trace`."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from fermo.benchmarks.contender import ACTION_BATCHES, Case
from fermo.benchmarks.trace import Trace
from fermo.envs.core.task import Task
from fermo.envs.core.vector_env import VectorEnv

RECORDED_WORLDS = 64  # a larger batch repeats them
SETTLING_STEPS = 100  # until episodes have fallen out of step with each other
LENGTH = 2 * ACTION_BATCHES


def record(task: Task, case: Case) -> Trace:
    """Run `task` on the CPU until its episodes have spread out, then note what happens."""
    num_worlds = min(case.num_envs, RECORDED_WORLDS)
    env = VectorEnv(task, num_worlds, seed=case.seed, autoreset_mode=AutoresetMode.SAME_STEP,
                    backend_options={"num_threads": case.threads})  # fmt: skip
    actions = torch.from_numpy(task_actions(task, case, num_worlds))
    env.reset()
    for step in range(SETTLING_STEPS):
        env.step(actions[step % len(actions)])
    start, episode_steps = env.backend.get_state().numpy(), env.steps.numpy().copy()
    ctrl, steps, worlds, states = [], [], [], []
    for step in range(LENGTH):
        _, _, terminated, truncated, _ = env.step(actions[step % len(actions)])
        ctrl.append(env.backend.read("ctrl").numpy().copy())
        done = np.flatnonzero((terminated | truncated).numpy())
        steps.append(np.full(len(done), step))
        worlds.append(done)
        states.append(env.backend.get_state().numpy()[done])
    return Trace(
        start=start, episode_steps=episode_steps, ctrl=np.stack(ctrl), restart_step=np.concatenate(steps),
        restart_world=np.concatenate(worlds), restart_state=np.concatenate(states),
        end=env.backend.get_state().numpy(),
    )  # fmt: skip


def task_actions(task: Task, case: Case, num_envs: int | None = None) -> np.ndarray:
    """The shared actions within the bounds of the task's commands, ``(ACTION_BATCHES, N, nu)``."""
    low = np.array([value for signal in task.spec.commands for value in signal.low])
    high = np.array([value for signal in task.spec.commands for value in signal.high])
    return case.actions(low, high, num_envs)
