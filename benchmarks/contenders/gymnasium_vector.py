"""Gymnasium's own vector environments, over the tasks that fermo rebuilt from it."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from fermo.benchmarks.contender import Case, Contender, NotForThisCaseError

# What loops in Python gains nothing from more worlds; processes gain until there are some for each processor.
LOOPED, PROCESSES_A_THREAD = 64, 4


class _GymnasiumVector(Contender):
    kind: type[SyncVectorEnv | AsyncVectorEnv]

    def worlds(self) -> int:
        """How many are run."""
        raise NotImplementedError

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        self._actions: Any = shared_actions(self.case, self.worlds())

    def make(self) -> int:
        """See `Contender.make`."""
        count = self.worlds()
        self._env = self.kind([partial(gymnasium.make, self.case.gymnasium_id)] * count)
        self._env.reset(seed=self.case.seed)
        self._step = 0
        self.note = f"{count} worlds"
        return count

    def step(self) -> None:
        """See `Contender.step`."""
        self._env.step(self._actions[self._step % len(self._actions)])
        self._step += 1

    def close(self) -> None:
        """See `Contender.close`."""
        self._env.close()


class GymnasiumSync(_GymnasiumVector):
    """`SyncVectorEnv`: a Python loop."""

    kind = SyncVectorEnv

    def worlds(self) -> int:
        """At most `LOOPED`."""
        return min(self.case.num_envs, LOOPED)


class GymnasiumAsync(_GymnasiumVector):
    """`AsyncVectorEnv`: a process a world."""

    kind = AsyncVectorEnv

    def worlds(self) -> int:
        """At most `PROCESSES_A_THREAD` for each thread."""
        return min(self.case.num_envs, PROCESSES_A_THREAD * self.case.threads)


def shared_actions(case: Case, worlds: int) -> np.ndarray:
    """The actions for a task of Gymnasium, if it is one."""
    if case.gymnasium_id not in gymnasium.registry:
        raise NotForThisCaseError(f"Gymnasium has no task {case.gymnasium_id}")
    space: Any = gymnasium.make(case.gymnasium_id).action_space
    return case.actions(space.low, space.high, worlds)
