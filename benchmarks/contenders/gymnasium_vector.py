"""Gymnasium's own vector environments, over the tasks that fermo rebuilt from it."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import gymnasium
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from fermo.benchmarks.contender import Contender, NotForThisCaseError

# What loops in Python gains nothing from more worlds; processes gain until there are some for each processor.
LOOPED, PROCESSES_A_THREAD = 64, 4


class PythonVector(Contender):
    """Single environments of Gymnasium side by side, in a loop or in a process each.

    Attributes:
        kind: The vector environment's class; it takes a list of functions that make an environment.
        process_a_world: Whether each world has a process.
    """

    kind: ClassVar[Any]
    process_a_world: ClassVar[bool]

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        if self.case.gymnasium_id not in gymnasium.registry:
            raise NotForThisCaseError(f"Gymnasium has no task {self.case.gymnasium_id}")
        most = PROCESSES_A_THREAD * self.case.threads if self.process_a_world else LOOPED
        self._count = min(self.case.num_envs, most)
        space: Any = gymnasium.make(self.case.gymnasium_id).action_space
        self._actions: Any = self.case.actions(space.low, space.high, self._count)

    def make(self) -> int:
        """See `Contender.make`."""
        self._env = self.kind([partial(gymnasium.make, self.case.gymnasium_id)] * self._count)
        self.begin(self._env)
        self._step = 0
        self.note = f"{self._count} worlds"
        return self._count

    def begin(self, env: Any) -> None:
        """Start the episodes."""
        env.reset(seed=self.case.seed)

    def step(self) -> None:
        """See `Contender.step`."""
        self._env.step(self._actions[self._step % len(self._actions)])
        self._step += 1

    def close(self) -> None:
        """See `Contender.close`."""
        self._env.close()


class GymnasiumSync(PythonVector):
    """`SyncVectorEnv`: a Python loop."""

    kind, process_a_world = SyncVectorEnv, False


class GymnasiumAsync(PythonVector):
    """`AsyncVectorEnv`: a process a world."""

    kind, process_a_world = AsyncVectorEnv, True
