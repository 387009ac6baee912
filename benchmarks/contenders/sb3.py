"""Stable-Baselines3's vector environments over Gymnasium's tasks."""

from __future__ import annotations

from functools import partial

import gymnasium
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

from fermo.benchmarks.contender import Contender
from fermo.benchmarks.contenders.gymnasium_vector import LOOPED, PROCESSES_A_THREAD, shared_actions


class _Sb3(Contender):
    kind: type[DummyVecEnv | SubprocVecEnv]

    def worlds(self) -> int:
        """How many are run."""
        raise NotImplementedError

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        self._actions = shared_actions(self.case, self.worlds())

    def make(self) -> int:
        """See `Contender.make`."""
        count = self.worlds()
        self._env = self.kind([partial(gymnasium.make, self.case.gymnasium_id)] * count)
        self._env.seed(self.case.seed)
        self._env.reset()
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


class Sb3Dummy(_Sb3):
    """`DummyVecEnv`: a Python loop."""

    kind = DummyVecEnv

    def worlds(self) -> int:
        """At most `LOOPED`."""
        return min(self.case.num_envs, LOOPED)


class Sb3Subproc(_Sb3):
    """`SubprocVecEnv`: a process a world."""

    kind = SubprocVecEnv

    def worlds(self) -> int:
        """At most `PROCESSES_A_THREAD` for each thread."""
        return min(self.case.num_envs, PROCESSES_A_THREAD * self.case.threads)
