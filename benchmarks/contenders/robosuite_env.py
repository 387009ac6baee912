"""robosuite's own environments, one world in Python, and the bare physics under them."""

from __future__ import annotations

from typing import Any

import mujoco
import mujoco.batch
import numpy as np

from fermo.benchmarks.contender import Case, Contender, NotForThisCaseError
from fermo.envs.adapters import mujoco_compat


class RobosuiteEnv(Contender):
    """``env.step`` of ``robosuite.make(..., robots="Panda")`` without cameras; it begins a new episode when done."""

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        low, high = make_env(self.case).action_spec
        self._actions = self.case.actions(low, high, 1)[:, 0]

    def make(self) -> int:
        """See `Contender.make`."""
        self._env = make_env(self.case)
        self._env.reset()
        self._step = 0
        self.note = "1 world"
        return 1

    def step(self) -> None:
        """See `Contender.step`."""
        *_, done, _ = self._env.step(self._actions[self._step % len(self._actions)])
        if done:
            self._env.reset()
        self._step += 1


class RobosuiteRaw(Contender):
    """``mujoco.batch.Batch`` on the model that robosuite compiled: its substeps and nothing else."""

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        env = make_env(self.case)
        env.reset()
        self._model, data = env.sim.model._model, env.sim.data._data
        self._substeps = round(env.control_timestep / env.model_timestep)
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        self._start = np.empty(mujoco.mj_stateSize(self._model, kind))
        mujoco.mj_getState(self._model, data, self._start, kind)
        # Torques about those that hold the arm up, as a controller's would be.
        low, high = self._model.actuator_ctrlrange.T
        self._controls = data.ctrl + 0.05 * self.case.actions(low - high, high - low)

    def make(self) -> int:
        """See `Contender.make`."""
        worlds = self.case.num_envs
        self._batch = mujoco.batch.Batch(self._model, nsim=worlds, nthread=min(self.case.threads, worlds))
        self._ctrl = self._batch.bind("ctrl")
        self._step = 0
        self.note = f"{self._substeps} physics steps a call, no observation, no reward"
        return worlds

    def step(self) -> None:
        """See `Contender.step`."""
        at = self._step % len(self._controls)
        if at == 0:  # before the arm has drifted out of its usual states
            self._batch.state[:] = self._start
        self._ctrl[:] = self._controls[at]
        self._batch.step(nstep=self._substeps)
        self._step += 1


def make_env(case: Case) -> Any:
    """The environment that both run."""
    name = case.task.removeprefix("fermo/Robosuite-").rpartition("-v")[0]
    if not case.task.startswith("fermo/Robosuite-"):
        raise NotForThisCaseError(f"robosuite has no task {case.task}")
    mujoco_compat.install()
    import robosuite

    return robosuite.make(name, robots="Panda", has_renderer=False, has_offscreen_renderer=False,
                          use_camera_obs=False, seed=case.seed)  # fmt: skip
