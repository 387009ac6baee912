"""fermo's own environment, and the bare engine under it: the ceiling that no environment on that engine can pass."""

from __future__ import annotations

import mujoco.batch
import torch
from gymnasium.vector import AutoresetMode

from fermo.benchmarks.contender import Contender
from fermo.benchmarks.record import task_actions
from fermo.benchmarks.trace import Trace
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.envs.tasks.robosuite.base import RobosuiteTask


class FermoEnv(Contender):
    """`VectorEnv` as learners use it: full observation and reward, finished worlds restarted in the same step."""

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        self._task = make_task(self.case.task)
        self._life = Trace.load(self.case.trace_file).over(self.case.num_envs)
        self._actions = torch.from_numpy(task_actions(self._task, self.case)).to(self.case.device)

    def make(self) -> int:
        """See `Contender.make`."""
        case = self.case
        options = {"num_threads": case.threads} if case.backend == "cpu" else {"device": case.device}
        self._env = VectorEnv(self._task, case.num_envs, backend=case.backend, seed=case.seed,
                              autoreset_mode=AutoresetMode.SAME_STEP, backend_options=options)  # fmt: skip
        self._env.reset()
        self._env.backend.set_state(torch.from_numpy(self._life.start))
        self._env.steps.copy_(torch.from_numpy(self._life.episode_steps))
        self._step = 0
        self.note = "SAME_STEP autoreset with final_obs"
        return case.num_envs

    def step(self) -> None:
        """See `Contender.step`."""
        self._env.step(self._actions[self._step % len(self._actions)])
        self._step += 1

    def finish(self) -> None:
        """See `Contender.finish`."""
        if self._env.device.type == "cuda":
            torch.cuda.synchronize(self._env.device)


class RawBatch(Contender):
    """``mujoco.batch.Batch`` alone: controls in, physics steps, nothing read.

    It steps through the states that fermo's environment meets, restarts included, to the last bit (`Trace`): the cost
    of physics depends on contacts, and worlds left to fall would not be a ceiling.
    """

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        task = make_task(self.case.task)
        # robosuite's arm controller acts inside the physics step; what else fermo adds to a model is not physics.
        self._model = task.engine_model("cpu") if isinstance(task, RobosuiteTask) else task.model
        self._life = Trace.load(self.case.trace_file).over(self.case.num_envs)
        self._restarts = self._life.restarts()

    def make(self) -> int:
        """See `Contender.make`."""
        worlds = self.case.num_envs
        self._batch = mujoco.batch.Batch(self._model, nsim=worlds, nthread=min(self.case.threads, worlds))
        self._ctrl, self._state = self._batch.bind("ctrl"), self._batch.state
        self._step = 0
        self.note = f"{self.case.substeps} physics steps a call, no observation, no reward"
        return worlds

    def step(self) -> None:
        """See `Contender.step`."""
        at = self._step % len(self._life.ctrl)
        if at == 0:
            self._state[:] = self._life.start
        self._ctrl[:] = self._life.ctrl[at]
        self._batch.step(nstep=self.case.substeps)
        worlds, rows = self._restarts[at]
        if len(worlds):
            self._state[worlds] = rows
        self._step += 1
