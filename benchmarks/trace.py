"""What worlds of a task live through under the shared actions, so that the bare engine can go through the same."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from fermo.benchmarks.contender import ACTION_BATCHES, Case
from fermo.envs.core.task import Task
from fermo.envs.core.vector_env import VectorEnv

RECORDED_WORLDS = 64  # a larger batch repeats them
SETTLING_STEPS = 100  # until episodes have fallen out of step with each other
LENGTH = 2 * ACTION_BATCHES


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A stretch of the lives of `RECORDED_WORLDS` worlds or fewer, n.

    Attributes:
        start: Engine state of each world (``mjSTATE_INTEGRATION``) before the first step, ``(n, nstate)``.
        episode_steps: Control steps since the world's episode began, ``(n,)``.
        ctrl: Actuator input at each step, ``(LENGTH, n, nu)``.
        restarts: For each step the worlds that then began anew ``(k,)`` and their states ``(k, nstate)``.
        end: The states after the last step, ``(n, nstate)``.
    """

    start: np.ndarray
    episode_steps: np.ndarray
    ctrl: np.ndarray
    restarts: tuple[tuple[np.ndarray, np.ndarray], ...]
    end: np.ndarray

    def over(self, num_worlds: int) -> Trace:
        """The same for `num_worlds` worlds, world i living the life of world ``i mod n``."""
        source = np.arange(num_worlds) % len(self.start)
        return Trace(start=self.start[source], episode_steps=self.episode_steps[source], ctrl=self.ctrl[:, source],
                     restarts=tuple(_repeat(ids, rows, source) for ids, rows in self.restarts),
                     end=self.end[source])  # fmt: skip


def record(task: Task, case: Case) -> Trace:
    """Run `task` on the CPU until its episodes have spread out, then note what happens."""
    num_worlds = min(case.num_envs, RECORDED_WORLDS)
    env = VectorEnv(task, num_worlds, seed=case.seed, autoreset_mode=AutoresetMode.SAME_STEP,
                    backend_options={"num_threads": case.threads})  # fmt: skip
    actions = torch.from_numpy(task_actions(task, case, num_worlds))
    env.reset()
    for step in range(SETTLING_STEPS):
        env.step(actions[step % len(actions)])
    start, steps = env.backend.get_state().numpy(), env.steps.numpy().copy()
    ctrl, restarts = [], []
    for step in range(LENGTH):
        _, _, terminated, truncated, _ = env.step(actions[step % len(actions)])
        ctrl.append(env.backend.read("ctrl").numpy().copy())
        done = (terminated | truncated).numpy()
        restarts.append((np.flatnonzero(done), env.backend.get_state().numpy()[done]))
    return Trace(start=start, episode_steps=steps, ctrl=np.stack(ctrl), restarts=tuple(restarts),
                 end=env.backend.get_state().numpy())  # fmt: skip


def task_actions(task: Task, case: Case, num_envs: int | None = None) -> np.ndarray:
    """The shared actions within the bounds of the task's commands, ``(ACTION_BATCHES, N, nu)``."""
    low = np.array([value for signal in task.spec.commands for value in signal.low])
    high = np.array([value for signal in task.spec.commands for value in signal.high])
    return case.actions(low, high, num_envs)


def _repeat(ids: np.ndarray, rows: np.ndarray, source: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    place = np.full(source.max() + 1, -1)
    place[ids] = np.arange(len(ids))
    chosen = np.flatnonzero(place[source] >= 0)
    return chosen, rows[place[source[chosen]]]
