"""The Warp back end: N worlds of `mujoco_warp` on a CUDA device, or on Warp's CPU device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Literal

import mujoco
import numpy as np
import torch
from torch import Tensor

from fermo.envs.core.backend import BackendError
from fermo.errors import unknown_name

try:
    import warp as wp

    wp.config.log_level = wp.LOG_ERROR  # a line for each of some fifty kernels otherwise
    import mujoco_warp as mjw
except ImportError as error:
    raise BackendError(f'the warp back end needs mujoco-warp ({error}): pip install "fermo[warp]"') from error

from fermo.envs.core.warp_buffers import Buffers, probed_sizes
from fermo.envs.core.warp_contacts import follow_mujoco
from fermo.envs.core.warp_graph import Captured, launching
from fermo.envs.core.warp_params import WarpParameters, batched_names
from fermo.envs.core.warp_support import check_supported, find_device

# The layout of mjSTATE_INTEGRATION, so that a state can be replayed in plain MuJoCo.
_STATE = ("time", "qpos", "qvel", "act", "history", "qacc_warmstart", "ctrl", "qfrc_applied", "xfrc_applied",
          "eq_active", "mocap_pos", "mocap_quat", "userdata")  # fmt: skip
# What of it a physics step changes; the rest is given to it.
_MOVING = ("time", "qpos", "qvel", "act", "qacc_warmstart")
# What a forward pass writes and a refresh does not.
_ACCELERATIONS = frozenset({
    "qacc", "act_dot", "actuator_force", "qfrc_actuator", "qfrc_smooth", "qacc_smooth", "qfrc_constraint",
    "qfrc_inverse", "cacc", "cfrc_int", "cfrc_ext", "energy",
})  # fmt: skip
_AFTER_CONSTRAINT = frozenset({"cacc", "cfrc_int", "cfrc_ext"})


class WarpBackend:
    """N worlds on `mujoco_warp`; float32, torch views that share its memory.

    Kernels are compiled for a model at its first step, up to a minute, and then kept in Warp's own cache. MuJoCo and
    mujoco_warp agree to single precision as long as contacts do not amplify the difference; `fermo divergence` measures
    it.

    A step waits for nothing: an overflow and a refused parameter are told by `check`. The engine has no pass over some
    of the worlds, so `forward` computes all of them and keeps the rows outside the mask. What that costs depends on
    what was read: kinematics and velocities until somebody reads an acceleration-stage array, then a whole physics step
    but for its integration.

    In a failed world, arrays that would describe the diverged state are zero.

    Args:
        model: Compiled model.
        num_worlds: N.
        device: ``"cuda"``, ``"cuda:1"`` or ``"cpu"``; the first CUDA device, or else the CPU, when None.
        nconmax: Contacts to allocate per world, pooled over worlds; probed when None.
        njmax: Constraint rows to allocate in each world; probed when None.
        refresh: Recompute derived arrays at the new state after `step`.
        varying: Model fields that will differ between worlds. Others can be set too, but the first time replaces arrays
            and so makes captured graphs stale (`version` changes).
        on_overflow: ``"error"`` has `check` raise. ``"regrow"`` looks after each step, which waits for the device: it
            enlarges the buffers and repeats the step from the state before it; `sizes` then tells what to pass next
            time. Not `graph_safe`.
        deterministic: Have mujoco_warp add floating-point numbers in a fixed order. See `docs/backends.md` for what
            that does and does not fix in version 3.17.

    Raises:
        BackendError: No such device, or a model that mujoco_warp cannot simulate.
    """

    name = "warp"
    dtype = torch.float32

    def __init__(self, model: mujoco.MjModel, num_worlds: int, *, device: str | None = None, nconmax: int | None = None,
                 njmax: int | None = None, refresh: bool = True, varying: Iterable[str] = (),
                 on_overflow: Literal["error", "regrow"] = "error", deterministic: bool = False) -> None:  # fmt: skip
        check_supported(model)
        self.device = find_device(device)
        self.model, self.num_worlds = copy.copy(model), num_worlds
        self.failed = torch.zeros(num_worlds, dtype=torch.bool, device=self.device)
        self.graph_safe = on_overflow == "error"
        self._host = mujoco.MjData(model)
        self._refresh_after = refresh
        self._acceleration_sensors = bool((model.sensor_needstage == int(mujoco.mjtStage.mjSTAGE_ACC)).any())
        with launching(self.device):
            try:
                self._m = mjw.put_model(model)
                nconmax, njmax = probed_sizes(model, self._m, nconmax, njmax)
                self._d = mjw.put_data(model, self._host, nworld=num_worlds, nconmax=nconmax, njmax=njmax)
            except (NotImplementedError, ValueError, RuntimeError) as error:
                raise BackendError(f"mujoco_warp cannot simulate this model: {error}; use the cpu back end") from error
            self._m.opt.warn_overflow = 0  # read from `overflow` instead of printed from kernels
            self._m.opt.deterministic = deterministic
            follow_mujoco(model, self._m)
            self._params = WarpParameters(self.model, self._m, self._d, num_worlds, varying)
        self._buffers = Buffers(self.model, self._d)
        self._graphs: dict[str, Captured[None]] = {}
        self._views: dict[str, Tensor] = {}
        self._reread = 0
        self._state_views = {name: self._view(name) for name in _STATE if self._view(name).numel()}
        self._moving_views = [self._state_views[name] for name in _MOVING if name in self._state_views]
        self._default = self._default_state()
        self._good, self._failed_before = _joined(self._moving_views), self.failed.clone()
        self._data_names = sorted(name for name in batched_names(mjw.Data, "nworld") if self._readable(name))
        self._late: dict[str, Tensor] = {}
        self._reads_accelerations = False

    @property
    def version(self) -> int:
        """See `Backend.version`."""
        return self._params.version + self._buffers.version + self._reread

    @property
    def sizes(self) -> dict[str, int]:
        """The buffers' sizes, to be passed to the next back end for this model."""
        return self._buffers.sizes

    # Reading

    def read(self, name: str) -> Tensor:
        """See `Backend.read`."""
        if name not in self._data_names:
            raise unknown_name("data field", name, self._data_names)
        view = self._view(name)
        if name in self._late or name in _STATE:
            return view
        accelerations = name in _ACCELERATIONS or (name == "sensordata" and self._acceleration_sensors)
        if accelerations or not self._refresh_after:
            self._late[name] = view
            self._reread += 1
            self._m.opt.run_rne_postconstraint |= name in _AFTER_CONSTRAINT
            if accelerations and not (self._reads_accelerations and name not in _AFTER_CONSTRAINT):
                self._reads_accelerations = True
                self._launch("forward", partial(mjw.forward, self._m, self._d))
            self._zero_failed()
        return view

    def _view(self, name: str) -> Tensor:
        """A live view in MuJoCo's own shape; the arrays of one row a world are never replaced."""
        if name not in self._views:
            shape = np.shape(getattr(self._host, name))
            self._views[name] = wp.to_torch(getattr(self._d, name)).view(self.num_worlds, *shape)
        return self._views[name]

    def _readable(self, name: str) -> bool:
        """Whether the array means what MuJoCo's of that name does; some are packed differently or absent."""
        array, host = getattr(self._d, name), getattr(self._host, name, None)
        return array is not None and host is not None and wp.to_torch(array).numel() == self.num_worlds * np.size(host)

    # Stepping

    def step(self, ctrl: Tensor, substeps: int) -> None:
        """See `Backend.step`."""
        self._view("ctrl").copy_(ctrl)
        advance = partial(self._launch, f"step {substeps}", partial(self._advance, substeps))
        advance()
        while not self.graph_safe and self._buffers.overflowed():
            with launching(self.device):
                self._buffers.grow()
            _write(self._moving_views, self._good, torch.ones_like(self.failed))
            self.failed.copy_(self._failed_before)
            advance()

    def _advance(self, substeps: int) -> None:
        self._good.copy_(_joined(self._moving_views))
        self._failed_before.copy_(self.failed)
        for _ in range(substeps):
            mjw.step(self._m, self._d)
        self._buffers.note()
        now = _joined([self._view(name) for name in ("qpos", "qvel", "qacc")])
        self.failed |= ~(now.abs() < mujoco.mjMAXVAL).all(dim=1)  # a comparison with NaN is false
        _write(self._moving_views, self._good, self.failed)
        self._zero_failed()
        if self._refresh_after:
            self._refresh()

    def _zero_failed(self) -> None:
        for view in self._late.values():
            view.masked_fill_(_rows(self.failed, view), 0)

    def _refresh(self) -> None:
        """Positions, velocities and their sensors at the present state, without collisions or constraints."""
        m, d = self._m, self._d
        mjw.fwd_kinematics(m, d)
        mjw.crb(m, d)
        mjw.transmission(m, d)
        mjw.sensor_pos(m, d)
        mjw.fwd_velocity(m, d)
        mjw.sensor_vel(m, d)

    def _launch(self, name: str, work: Callable[[], None]) -> None:
        """Run `work`, on a CUDA device as one graph."""
        if name not in self._graphs:
            self._graphs[name] = Captured(work, self.device, lambda: self.version)
        with launching(self.device):
            self._graphs[name]()

    def forward(self, mask: Tensor) -> None:
        """See `Backend.forward`."""
        kept = {name: view.clone() for name, view in self._late.items()}
        if self._reads_accelerations:
            self._launch("forward", partial(mjw.forward, self._m, self._d))
        else:
            self._launch("refresh", self._refresh)
        for name, view in self._late.items():
            torch.where(_rows(mask, view), view, kept[name], out=view)

    def check(self) -> None:
        """See `Backend.check`."""
        self._params.check()
        self._buffers.check()

    # State

    def reset(self, mask: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """See `Backend.reset`."""
        _write(self._state_views.values(), self._default.expand(self.num_worlds, -1), mask)
        for name, rows in (("qpos", qpos), ("qvel", qvel)):
            _write([self._view(name)], rows.to(self.device), mask)
        self.failed &= ~mask

    def get_state(self) -> Tensor:
        """See `Backend.get_state`."""
        return _joined(self._state_views.values())

    def set_state(self, state: Tensor, mask: Tensor | None = None) -> None:
        """See `Backend.set_state`."""
        shape = (self.num_worlds, self._default.shape[1])
        if tuple(state.shape) != shape:
            raise BackendError(f"a state has shape {shape}, got {tuple(state.shape)}")
        chosen = torch.ones_like(self.failed) if mask is None else mask
        _write(self._state_views.values(), state.to(self._default), chosen)
        self.failed &= ~chosen
        self.forward(chosen)

    def _default_state(self) -> Tensor:
        """What a world is reset to, shape ``(1, nstate)``."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        row = np.empty(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_resetData(self.model, self._host)
        mujoco.mj_getState(self.model, self._host, row, kind)
        return torch.as_tensor(row, dtype=self.dtype, device=self.device)[None]

    def late_arrays(self) -> dict[str, Tensor]:
        """See `Backend.late_arrays`."""
        return dict(self._late)

    # Parameters

    def parameters_set(self) -> tuple[str, ...]:
        """See `Backend.parameters_set`."""
        return tuple(sorted(self._params.changed))

    def get_param(self, name: str) -> Tensor:
        """See `Backend.get_param`."""
        return self._params.get(name)

    def set_param(self, name: str, values: Tensor, mask: Tensor | None = None) -> None:
        """See `Backend.set_param`."""
        self.set_params({name: values}, mask)

    def set_params(self, values: Mapping[str, Tensor], mask: Tensor | None = None) -> None:
        """See `Backend.set_params`."""
        kept = {name: view.clone() for name, view in self._late.items()}
        with launching(self.device):
            self._params.set(values, mask)
        for name, view in self._late.items():  # deriving constants moves the bodies and puts them back afresh
            view.copy_(kept[name])

    def world_model(self, world: int) -> mujoco.MjModel:
        """The model of one world with its own parameters, for rendering and replay."""
        return self._params.world_model(world)


def _joined(views: Iterable[Tensor]) -> Tensor:
    """The arrays side by side, ``(N, ...)`` each, as float32 ``(N, n)``."""
    return torch.cat([view.reshape(len(view), -1).to(torch.float32) for view in views], dim=1)


def _write(views: Iterable[Tensor], rows: Tensor, mask: Tensor) -> None:
    """Put what `_joined` returned back into the worlds of `mask` ``(N,)``."""
    start = 0
    for view in views:
        flat = view.view(len(view), -1)
        part = rows[:, start : start + flat.shape[1]].to(flat.dtype)
        torch.where(mask[:, None], part, flat, out=flat)
        start += flat.shape[1]


def _rows(mask: Tensor, view: Tensor) -> Tensor:
    """`mask` ``(N,)`` shaped to broadcast over `view` ``(N, ...)``."""
    return mask.view(-1, *[1] * (view.ndim - 1))
