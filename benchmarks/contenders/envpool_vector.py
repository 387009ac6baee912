"""EnvPool: C++ environments on a thread pool, with a MuJoCo of its own."""

from __future__ import annotations

import envpool  # pyright: ignore[reportMissingImports]  it lives in an environment of its own

from fermo.benchmarks.contender import Contender, NotForThisCaseError


class EnvPool(Contender):
    """Its synchronous mode: every world steps, then all results are returned."""

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        name = self.case.gymnasium_id
        if name not in envpool.list_all_envs():
            raise NotForThisCaseError(f"EnvPool has no task {name}")
        space = envpool.make_spec(name).gymnasium_action_space
        self._actions = self.case.actions(space.low, space.high).astype(space.dtype)

    def make(self) -> int:
        """See `Contender.make`."""
        case = self.case
        self._env = envpool.make_gymnasium(case.gymnasium_id, num_envs=case.num_envs, num_threads=case.threads,
                                           seed=case.seed)  # fmt: skip
        self._env.reset()
        self._step = 0
        self.note = f"EnvPool {envpool.__version__} with its own MuJoCo"
        return case.num_envs

    def step(self) -> None:
        """See `Contender.step`."""
        self._env.step(self._actions[self._step % len(self._actions)])
        self._step += 1
