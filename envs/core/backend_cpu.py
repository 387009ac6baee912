"""The CPU back end: MuJoCo's native batch, one thread pool over worlds, no Python per world."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping

import mujoco
import mujoco.batch
import numpy as np
import torch
from torch import Tensor

from fermo.envs.core.backend import BackendError
from fermo.envs.core.parameters import check_together, inside, limits, refusal
from fermo.errors import unknown_name

# A state that is not finite, or huge: three warnings in a row, of position, velocity and acceleration.
_BAD_STATE = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADQACC) + 1)
_STRUCTURE = frozenset({"geom_type"})
_INPUTS = frozenset({"qfrc_applied", "xfrc_applied", "eq_active", "mocap_pos", "mocap_quat", "userdata"})


class CpuBackend:
    """N worlds on ``mujoco.batch.Batch``: float64, views shared with the engine, bitwise the same at any thread count.

    Args:
        model: Compiled model; the batch keeps a copy.
        num_worlds: N.
        num_threads: Threads over worlds; 0 takes all processors this process may use.
        refresh: Recompute derived arrays at the new state after `step`. Gymnasium's own environments observe some of
            them one substep late; a task that must equal them bitwise turns this off.
    """

    name = "cpu"
    device = torch.device("cpu")
    dtype = torch.float64
    graph_safe = False
    version = 0

    def __init__(self, model: mujoco.MjModel, num_worlds: int, *, num_threads: int = 0, refresh: bool = True) -> None:
        threads = num_threads or len(os.sched_getaffinity(0))
        self.num_worlds = num_worlds
        self.batch = mujoco.batch.Batch(model, nsim=num_worlds, nthread=min(threads, num_worlds))
        self.model = self.batch.model
        self.failed = torch.zeros(num_worlds, dtype=torch.bool)
        self._stage = mujoco.mjtStage.mjSTAGE_VEL if refresh else mujoco.mjtStage.mjSTAGE_NONE
        self._views: dict[str, Tensor] = {}
        self._rows = torch.from_numpy(self.batch.state)
        self._fresh = self._rows[0].clone()
        self._last_good = self._rows.clone()
        self._bad_states = self.batch.warning[:, _BAD_STATE, 1]  # counted by the engine, cleared here
        self._ctrl = self.read("ctrl")
        self._given: set[str] = set()
        self._kept = slice(0, _moving_size(model))

    def read(self, name: str) -> Tensor:
        """See `Backend.read`."""
        if name in _INPUTS:  # from now on somebody may write to it
            self._kept = slice(None)
        if name not in self._views:
            if name not in mujoco.batch.DATA_FIELDS:
                raise unknown_name("data field", name, mujoco.batch.DATA_FIELDS)
            array = self.batch.bind(name)
            if not array.flags.writeable:  # a derived array: zero until computed once
                self.batch.forward()
            with warnings.catch_warnings():  # torch has no read-only tensors and says so
                warnings.simplefilter("ignore", UserWarning)
                self._views[name] = torch.from_numpy(array)
        return self._views[name]

    def step(self, ctrl: Tensor, substeps: int) -> None:
        """See `Backend.step`."""
        self._ctrl.copy_(ctrl)
        # What a step moves is kept, so that a diverged world can be frozen where it was.
        self._last_good[:, self._kept] = self._rows[:, self._kept]
        ids = None if not self.failed.any() else (~self.failed).numpy()
        self.batch.step(ids=ids, nstep=substeps, stage=self._stage)
        if self._bad_states.any():
            self._freeze(torch.from_numpy(self._bad_states.any(axis=1)), ctrl.to(self.dtype))

    def _freeze(self, worlds: Tensor, ctrl: Tensor) -> None:
        """MuJoCo resets a world whose state diverges or is not finite; put it back where it was and leave it there."""
        self.failed |= worlds
        self._put_back(worlds, ctrl)
        self.batch.forward(ids=worlds.numpy())
        self._put_back(worlds, ctrl)  # forward resets a world that was given a bad state to start from
        self._bad_states[:] = 0

    def _put_back(self, worlds: Tensor, ctrl: Tensor) -> None:
        self._rows[worlds] = self._last_good[worlds]
        self._ctrl[worlds] = ctrl[worlds]

    def reset(self, mask: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """See `Backend.reset`."""
        if not mask.any():
            return
        # Written here rather than by the engine, whose threads take longer to wake than this takes.
        self._rows[mask] = self._fresh
        self.read("qpos")[mask] = qpos[mask].to(self.dtype)
        self.read("qvel")[mask] = qvel[mask].to(self.dtype)
        self.failed[mask] = False

    def forward(self, mask: Tensor) -> None:
        """See `Backend.forward`."""
        if mask.any():  # every stage: what a partial pass does not compute is read from another world's workspace
            self.batch.forward(ids=mask.numpy())

    def get_param(self, name: str) -> Tensor:
        """See `Backend.get_param`."""
        self._check_param(name)
        return torch.from_numpy(np.array(self.batch.expand(name)))

    def set_param(self, name: str, values: Tensor, mask: Tensor | None = None) -> None:
        """See `Backend.set_param`."""
        self.set_params({name: values}, mask)

    def set_params(self, values: Mapping[str, Tensor], mask: Tensor | None = None) -> None:
        """See `Backend.set_params`."""
        check_together(values)
        chosen = np.ones(self.num_worlds, bool) if mask is None else mask.numpy()
        rows = {name: self._checked(name, value, chosen) for name, value in values.items()}
        for name, row in rows.items():
            self.batch.expand(name)[chosen] = row[chosen]
        self._given.update(rows)
        if chosen.any() and any(name in mujoco.MjModel._setconst_inputs or name.startswith("opt.") for name in rows):
            self._derive(chosen)

    def _checked(self, name: str, values: Tensor, chosen: np.ndarray) -> np.ndarray:
        self._check_param(name)
        field = self.batch.expand(name)
        if tuple(values.shape) != field.shape:
            got = tuple(values.shape)
            raise BackendError(f"parameter {name!r} has shape {field.shape} (one row a world), got {got}")
        wrong = chosen & ~inside(values, *limits(self.model, name)).cpu().numpy()
        if wrong.any():
            raise refusal(self.model, name, np.flatnonzero(wrong).tolist())
        return np.asarray(values.detach().cpu(), dtype=field.dtype)

    def _derive(self, chosen: np.ndarray) -> None:
        """Recompute derived constants, but for bounding spheres of meshes: MuJoCo takes those of the first model."""
        meshes = self.model.geom_type == int(mujoco.mjtGeom.mjGEOM_MESH)
        spheres = self.batch.expand("geom_rbound")
        kept = spheres[:, meshes].copy()
        self.batch.set_const(ids=chosen)
        spheres[:, meshes] = kept

    def _check_param(self, name: str) -> None:
        if name not in mujoco.batch.MODEL_FIELDS:
            raise unknown_name("model field", name, mujoco.batch.MODEL_FIELDS)
        if name in _STRUCTURE:
            raise BackendError(f"{name!r} cannot differ between worlds: build another model")

    def check(self) -> None:
        """See `Backend.check`; on the CPU every mistake is told where it is made."""

    def parameters_set(self) -> tuple[str, ...]:
        """See `Backend.parameters_set`."""
        return tuple(sorted(self._given))

    def late_arrays(self) -> dict[str, Tensor]:
        """See `Backend.late_arrays`; the arrays are copies that the engine fills after each call."""
        return {name: view for name, view in self._views.items() if not self.batch.bind(name).flags.writeable}

    def get_state(self) -> Tensor:
        """See `Backend.get_state`."""
        return self._rows.clone()

    def set_state(self, state: Tensor, mask: Tensor | None = None) -> None:
        """See `Backend.set_state`."""
        if state.shape != self._rows.shape:
            raise BackendError(f"a state has shape {tuple(self._rows.shape)}, got {tuple(state.shape)}")
        chosen = torch.ones(self.num_worlds, dtype=torch.bool) if mask is None else mask
        self._kept = slice(None)  # the state may hold applied forces
        self._rows[chosen] = state[chosen].to(self.dtype)
        self.failed[chosen] = False
        self.forward(chosen)

    def world_model(self, world: int) -> mujoco.MjModel:
        """The model of one world with its own parameters, for rendering and replay."""
        return self.batch.get_model(world)


def _moving_size(model: mujoco.MjModel) -> int:
    """How many numbers of a state row, from its start, a step changes: those before the inputs."""
    kind = mujoco.mjtState
    if model.npluginstate or model.nuserdata:  # kept behind the inputs, and plugins may change both
        return mujoco.mj_stateSize(model, kind.mjSTATE_INTEGRATION)
    moving = kind.mjSTATE_TIME | kind.mjSTATE_PHYSICS | kind.mjSTATE_WARMSTART
    return mujoco.mj_stateSize(model, moving)
