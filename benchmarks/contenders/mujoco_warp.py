"""``mujoco_warp`` alone: the ceiling of every environment on that engine."""

from __future__ import annotations

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp

from fermo.benchmarks.contender import Contender
from fermo.benchmarks.trace import Trace
from fermo.envs.core.warp_graph import capture, launching
from fermo.envs.registry import make_task


class RawWarp(Contender):
    """The physics of a control step as one captured graph on CUDA, as plain launches on Warp's CPU device.

    Worlds start in the states that fermo's environment meets and are put back into fresh ones where it restarts them,
    or physics would soon be that of fallen robots.
    """

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        self._task = make_task(self.case.task)
        self._life = Trace.load(self.case.trace_file).over(self.case.num_envs)

    def make(self) -> int:
        """See `Contender.make`."""
        case, model, life = self.case, self._task.engine_model("warp"), self._life
        self._device = torch.device(case.device)
        with launching(self._device):
            self._model = mjw.put_model(model)
            self._data = mjw.put_data(model, mujoco.MjData(model), nworld=case.num_envs, nconmax=case.nconmax,
                                      njmax=case.njmax)  # fmt: skip
        self._model.opt.warn_overflow = 0
        self._qpos, self._qvel = wp.to_torch(self._data.qpos), wp.to_torch(self._data.qvel)
        self._ctrl = wp.to_torch(self._data.ctrl)
        self._controls = [torch.as_tensor(ctrl, dtype=torch.float32, device=self._device) for ctrl in life.ctrl]
        everybody = (np.arange(case.num_envs), life.start)
        self._start, *self._restarts = [self._placed(*each) for each in (everybody, *life.restarts())]
        self._physics, self._step = capture(self._advance, self._device), 0
        self.note = f"{case.substeps} physics steps a call, no observation, no reward"
        return case.num_envs

    def step(self) -> None:
        """See `Contender.step`."""
        at = self._step % len(self._controls)
        if at == 0:
            self._place(*self._start)
        self._ctrl.copy_(self._controls[at])
        self._physics()
        self._place(*self._restarts[at])
        self._step += 1

    def finish(self) -> None:
        """See `Contender.finish`."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

    def _advance(self) -> None:
        with launching(self._device):
            for _ in range(self.case.substeps):
                mjw.step(self._model, self._data)

    def _placed(self, worlds: np.ndarray, states: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Worlds with their positions and velocities, which follow time in ``mjSTATE_INTEGRATION``."""
        rows = torch.as_tensor(states, dtype=torch.float32, device=self._device)
        nq, nv = self._qpos.shape[1], self._qvel.shape[1]
        return torch.as_tensor(worlds, device=self._device), rows[:, 1 : 1 + nq], rows[:, 1 + nq : 1 + nq + nv]

    def _place(self, worlds: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        if len(worlds):
            self._qpos[worlds], self._qvel[worlds] = qpos, qvel
