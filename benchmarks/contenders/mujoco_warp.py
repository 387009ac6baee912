"""``mujoco_warp`` alone: the ceiling of every environment on that engine."""

from __future__ import annotations

from collections.abc import Callable

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp

from fermo.benchmarks.contender import Contender
from fermo.benchmarks.contenders.ours import make_case_task
from fermo.benchmarks.trace import record
from fermo.envs.core.warp_sizes import probe_sizes


class RawWarp(Contender):
    """The physics of a control step as one captured graph on CUDA, as plain launches on Warp's CPU device.

    Worlds start in the states that fermo's environment meets and are put back into fresh ones where it restarts them,
    or physics would soon be that of fallen robots.
    """

    def prepare(self) -> None:
        """See `Contender.prepare`."""
        self._task = make_case_task(self.case)
        self._life = record(self._task, self.case).over(self.case.num_envs)

    def make(self) -> int:
        """See `Contender.make`."""
        task, case, life = self._task, self.case, self._life
        contacts, rows = probe_sizes(task.model)
        self._device = wp.get_device(case.device)
        with wp.ScopedDevice(self._device):
            self._model = mjw.put_model(task.model)
            contacts = max(contacts, min(len(self._model.nxn_geom_pair_filtered), 512))  # the broad phase needs them
            self._data = mjw.put_data(task.model, mujoco.MjData(task.model), nworld=case.num_envs, nconmax=contacts,
                                      njmax=rows)  # fmt: skip
        self._model.opt.warn_overflow = 0
        self._qpos, self._qvel = wp.to_torch(self._data.qpos), wp.to_torch(self._data.qvel)
        self._ctrl = wp.to_torch(self._data.ctrl)
        self._controls = [torch.as_tensor(ctrl, dtype=torch.float32, device=self._ctrl.device) for ctrl in life.ctrl]
        everybody = (np.arange(case.num_envs), life.start)
        self._start, *self._restarts = [self._placed(*each, task.model) for each in (everybody, *life.restarts)]
        self._physics, self._step = self._compiled(task.substeps), 0
        self.note = f"{task.substeps} physics steps a call, nconmax {contacts}, njmax {rows}, no observation, no reward"
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
        wp.synchronize_device(self._device)

    def _compiled(self, substeps: int) -> Callable[[], None]:
        def physics() -> None:
            for _ in range(substeps):
                mjw.step(self._model, self._data)

        with wp.ScopedDevice(self._device):
            physics()  # kernels are compiled here, which cannot happen during a capture
        if not self._device.is_cuda:
            return physics
        stream = wp.Stream(self._device)  # torch's own default stream cannot be captured
        with wp.ScopedDevice(self._device), wp.ScopedStream(stream), wp.ScopedCapture(stream=stream) as capture:
            physics()
        torch_stream = wp.stream_from_torch(torch.cuda.current_stream(self._ctrl.device))
        return lambda: wp.capture_launch(capture.graph, stream=torch_stream)  # type: ignore[arg-type]

    def _placed(self, worlds: np.ndarray, states: np.ndarray, model: mujoco.MjModel) -> tuple[torch.Tensor, ...]:
        """Worlds with their positions and velocities, which follow time in ``mjSTATE_INTEGRATION``."""
        device = self._ctrl.device
        rows = torch.as_tensor(states, dtype=torch.float32, device=device)
        return torch.as_tensor(worlds, device=device), rows[:, 1 : 1 + model.nq], rows[:, 1 + model.nq :][:, : model.nv]

    def _place(self, worlds: torch.Tensor, qpos: torch.Tensor, qvel: torch.Tensor) -> None:
        if len(worlds):
            self._qpos[worlds], self._qvel[worlds] = qpos, qvel
