"""The Warp back end: mujoco_warp on a CUDA device as one captured graph per control step, or on Warp's CPU device."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from fermo.envs.core.backend import BackendError
from fermo.envs.core.warp_sizes import probe_sizes
from fermo.errors import unknown_name

try:
    import warp as wp

    wp.config.log_level = wp.LOG_ERROR  # a line for each of some fifty kernels otherwise
    import mujoco_warp as mjw
except ImportError as error:
    raise BackendError(f'the warp back end needs mujoco-warp ({error}): pip install "fermo[warp]"') from error

# The layout of mjSTATE_INTEGRATION, so that a state can be replayed in plain MuJoCo.
_STATE = ("time", "qpos", "qvel", "act", "history", "qacc_warmstart", "ctrl", "qfrc_applied", "xfrc_applied",
          "eq_active", "mocap_pos", "mocap_quat", "userdata")  # fmt: skip
# What a forward pass writes and a refresh does not.
_ACCELERATION_STAGE = ("qacc", "act_dot", "sensordata", "actuator_force", "qfrc_actuator", "qfrc_smooth", "qacc_smooth",
                       "qfrc_constraint", "qfrc_inverse", "cacc", "cfrc_int", "cfrc_ext")  # fmt: skip
_AFTER_CONSTRAINT = frozenset({"cacc", "cfrc_int", "cfrc_ext"})
_DERIVED = ("body_subtreemass", "body_invweight0", "dof_invweight0", "tendon_length0", "tendon_invweight0", "eq_data",
            "cam_pos0", "cam_poscom0", "cam_mat0", "light_pos0", "light_poscom0", "light_dir0",
            "actuator_acc0")  # fmt: skip
_SIZE_FIELDS = frozenset({"geom_size", "geom_aabb", "geom_rbound", "geom_dataid"})
_FATAL = int(
    mjw.OverflowType.NEFC | mjw.OverflowType.NJMAX_NNZ | mjw.OverflowType.BROADPHASE | mjw.OverflowType.NARROWPHASE
    | mjw.OverflowType.CCD | mjw.OverflowType.HFIELD | mjw.OverflowType.CONTACT_MATCH
)  # fmt: skip


def _batched_names(kind: type, first: str) -> list[str]:
    return [field.name for field in dataclasses.fields(kind) if (getattr(field.type, "shape", ()) or ("",))[0] == first]


class WarpBackend:
    """N worlds on `mujoco_warp`; float32, torch views that share its memory.

    Kernels are compiled for a model at its first step, up to a minute, and then kept in Warp's own cache. MuJoCo and
    mujoco_warp agree to single precision as long as contacts do not amplify the difference. They choose the tangents of
    some contacts differently (MuJoCo turns those of a capsule on a plane along its axis), and the pyramidal friction
    cone depends on them: such friction forces differ by some percent.

    Args:
        model: Compiled model.
        num_worlds: N.
        device: ``"cuda"``, ``"cuda:1"`` or ``"cpu"``; the first CUDA device, or else the CPU, when None.
        nconmax: Contacts to allocate per world, pooled over worlds; probed when None.
        njmax: Constraint rows to allocate in each world; probed when None.
        refresh: Recompute derived arrays at the new state after `step`.

    Raises:
        BackendError: No such device, or a model that mujoco_warp cannot simulate.
    """

    name = "warp"
    dtype = torch.float32

    def __init__(self, model: mujoco.MjModel, num_worlds: int, *, device: str | None = None, nconmax: int | None = None,
                 njmax: int | None = None, refresh: bool = True) -> None:  # fmt: skip
        self._wp_device = _find_device(device)
        self.device = torch.device(wp.device_to_torch(self._wp_device))
        self.model, self.num_worlds = copy.copy(model), num_worlds
        self.failed = torch.zeros(num_worlds, dtype=torch.bool, device=self.device)
        self._host = mujoco.MjData(model)
        self._check_model()
        with self._launching():
            try:
                self._m = mjw.put_model(model)
                nconmax, njmax = self._sizes(nconmax, njmax)
                self._d = mjw.put_data(model, self._host, nworld=num_worlds, nconmax=nconmax, njmax=njmax)
            except (NotImplementedError, ValueError, RuntimeError) as error:
                raise BackendError(f"mujoco_warp cannot simulate this model: {error}; use the cpu back end") from error
        self._m.opt.warn_overflow = 0  # read from `overflow` instead of printed from kernels
        self._refresh_after = refresh
        self._graphs: dict[str, Any] = {}
        self._changed: set[str] = set()
        self._overflow = wp.to_torch(self._d.overflow)
        self._state_views = [self._view(name) for name in _STATE]
        self._acceleration = [self._view(name) for name in _ACCELERATION_STAGE]
        self._default = self._default_state()
        self._data_names = sorted(name for name in _batched_names(mjw.Data, "nworld") if self._readable(name))

    def _check_model(self) -> None:
        if self.model.nplugin and (self.model.geom_plugin == -1).all():
            raise BackendError("the warp back end runs no engine plugins, and this model has one; use the cpu back end")
        if self.model.nhistory:
            raise BackendError("the warp back end runs no models with sensor or actuator delays; use the cpu back end")
        if self.model.opt.enableflags & int(mujoco.mjtEnableBit.mjENBL_SLEEP):
            raise BackendError("the warp back end puts no bodies to sleep; clear the model's sleep flag or use cpu")

    def _sizes(self, nconmax: int | None, njmax: int | None) -> tuple[int, int]:
        """Contacts and constraint rows per world: as given, or probed."""
        if nconmax is not None and njmax is not None:
            return nconmax, njmax
        contacts, rows = probe_sizes(self.model)
        # Candidates of the broad phase share the contact buffer, and there can be more of them than contacts.
        contacts = max(contacts, min(len(self._m.nxn_geom_pair_filtered), 512))
        return contacts if nconmax is None else nconmax, rows if njmax is None else njmax

    @contextmanager
    def _launching(self) -> Iterator[None]:
        """Launch on the stream torch uses now, so that its operations and ours are ordered."""
        if self.device.type == "cuda":
            stream = wp.stream_from_torch(torch.cuda.current_stream(self.device))
            with wp.ScopedDevice(self._wp_device), wp.ScopedStream(stream):
                yield
        else:
            with wp.ScopedDevice(self._wp_device):
                yield

    # Reading

    def read(self, name: str) -> Tensor:
        """See `Backend.read`."""
        if name not in self._data_names:
            raise unknown_name("data field", name, self._data_names)
        if name in _AFTER_CONSTRAINT and not self._m.opt.run_rne_postconstraint:
            self._m.opt.run_rne_postconstraint = True
            self._graphs.clear()
        return self._view(name)

    def _view(self, name: str) -> Tensor:
        """A live view in MuJoCo's own shape."""
        return wp.to_torch(getattr(self._d, name)).view(self.num_worlds, *np.shape(getattr(self._host, name)))

    def _readable(self, name: str) -> bool:
        """Whether the array means what MuJoCo's of that name does; some are packed differently or absent."""
        array, host = getattr(self._d, name), getattr(self._host, name, None)
        return array is not None and host is not None and wp.to_torch(array).numel() == self.num_worlds * np.size(host)

    # Stepping

    def step(self, ctrl: Tensor, substeps: int) -> None:
        """See `Backend.step`."""
        self._view("ctrl").copy_(ctrl)
        good = self.get_state()
        self._launch(f"step {substeps}", lambda: self._advance(substeps))
        self._check_overflow()
        finite = torch.ones_like(self.failed)
        for name in ("qpos", "qvel", "qacc"):  # a comparison with NaN is false
            finite &= (self._view(name).abs() < mujoco.mjMAXVAL).all(dim=1)
        self.failed |= ~finite
        if self.failed.any():
            self._write_state(good, self.failed)
            self.forward(self.failed)

    def _advance(self, substeps: int) -> None:
        for _ in range(substeps):
            mjw.step(self._m, self._d)
        if self._refresh_after:
            self._refresh()

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
        """Run `work`; on a CUDA device as one graph, captured anew after model arrays were replaced."""
        with self._launching():
            if self.device.type != "cuda":
                work()
                return
            if name not in self._graphs:
                self._graphs[name] = self._capture(work)
            wp.capture_launch(self._graphs[name], stream=wp.get_stream())

    def _capture(self, work: Callable[[], None]) -> Any:
        before = self.get_state()
        work()  # compile and load every kernel first: neither can happen during a capture
        self._write_state(before, torch.ones_like(self.failed))
        torch.cuda.synchronize(self.device)
        stream = wp.Stream(self._wp_device)  # torch's default stream cannot be captured
        with wp.ScopedStream(stream), wp.ScopedCapture(stream=stream) as capture:
            work()
        return capture.graph

    def _check_overflow(self) -> None:
        if not (self._overflow & _FATAL).any():
            return
        bits = int(np.bitwise_or.reduce(self._overflow.cpu().numpy()))
        names = ", ".join(str(kind.name) for kind in mjw.OverflowType if kind.value & bits & _FATAL)
        rows = int(wp.to_torch(self._d.nefc).max())
        contacts = max(int(wp.to_torch(count)) for count in (self._d.nacon, self._d.ncollision))
        contacts = -(-contacts // self.num_worlds)
        had_contacts, had_rows = self._d.naconmax // self.num_worlds, self._d.njmax
        raise BackendError(
            f"buffers overflowed ({names}) at nconmax={had_contacts}, njmax={had_rows}; the last substep needed "
            f"{contacts} and {rows}; give the warp back end nconmax={2 * max(contacts, had_contacts)} and "
            f"njmax={2 * max(rows, had_rows)}"
        )

    # State

    def reset(self, mask: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """See `Backend.reset`."""
        self._write_state(self._default.expand(self.num_worlds, -1), mask)
        for name, rows in (("qpos", qpos), ("qvel", qvel)):
            view = self._view(name)
            view.copy_(torch.where(mask[:, None], rows.to(view), view))
        self.failed &= ~mask

    def forward(self, mask: Tensor) -> None:
        """See `Backend.forward`."""
        if not mask.any():
            return
        # The engine computes every world; those outside the mask keep the accelerations of their last substep.
        kept = [view.clone() for view in self._acceleration]
        self._launch("forward", lambda: mjw.forward(self._m, self._d))
        for view, before in zip(self._acceleration, kept, strict=True):
            view.copy_(torch.where(mask.view(-1, *[1] * (view.ndim - 1)), view, before))
        self._check_overflow()

    def get_state(self) -> Tensor:
        """See `Backend.get_state`."""
        return torch.cat([view.reshape(self.num_worlds, -1).to(self.dtype) for view in self._state_views], dim=1)

    def set_state(self, state: Tensor, mask: Tensor | None = None) -> None:
        """See `Backend.set_state`."""
        shape = (self.num_worlds, self._default.shape[1])
        if tuple(state.shape) != shape:
            raise BackendError(f"a state has shape {shape}, got {tuple(state.shape)}")
        chosen = torch.ones_like(self.failed) if mask is None else mask
        self._write_state(state.to(self._default), chosen)
        self.failed &= ~chosen
        self.forward(chosen)

    def _write_state(self, rows: Tensor, mask: Tensor) -> None:
        start = 0
        for view in self._state_views:
            flat = view.view(self.num_worlds, -1)
            part = rows[:, start : start + flat.shape[1]]
            flat.copy_(torch.where(mask[:, None], part.to(flat.dtype), flat))
            start += flat.shape[1]

    def _default_state(self) -> Tensor:
        """What a world is reset to, shape ``(1, nstate)``."""
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        row = np.empty(mujoco.mj_stateSize(self.model, kind))
        mujoco.mj_resetData(self.model, self._host)
        mujoco.mj_getState(self.model, self._host, row, kind)
        return torch.as_tensor(row, dtype=self.dtype, device=self.device)[None]

    # Parameters

    def get_param(self, name: str) -> Tensor:
        """See `Backend.get_param`."""
        rows = self._param_view(name)
        return rows.expand(self.num_worlds, *rows.shape[1:]).clone()

    def set_param(self, name: str, values: Tensor, mask: Tensor | None = None) -> None:
        """See `Backend.set_param`."""
        shape = (self.num_worlds, *self._param_view(name).shape[1:])
        if tuple(values.shape) != shape:
            raise BackendError(f"parameter {name!r} has shape {shape} (one row a world), got {tuple(values.shape)}")
        chosen = torch.ones_like(self.failed) if mask is None else mask
        rows = values.to(self.device)
        if not torch.isfinite(rows[chosen]).all():
            raise BackendError(f"parameter {name!r} got values that are not finite")
        self._expand(name)
        field = self._param_view(name)
        field[chosen] = rows[chosen].to(field.dtype)
        self._changed.add(name)
        if name in mujoco.MjModel._setconst_inputs:
            self._derive(chosen)

    def _derive(self, chosen: Tensor) -> None:
        """Recompute derived constants in the worlds chosen; the others keep theirs to the last bit."""
        names = [name for name in _DERIVED if getattr(self._m, name).size]
        for name in names:
            self._expand(name)
        kept = {name: self._param_view(name).clone() for name in names}
        with self._launching():
            mjw.set_const(self._m, self._d)
        for name in names:
            self._param_view(name)[~chosen] = kept[name][~chosen]

    def _param_view(self, name: str) -> Tensor:
        """A live view in MuJoCo's own shape, one row if all worlds share it and N otherwise."""
        owner, field, host = self._find_param(name)
        array = wp.to_torch(getattr(owner, field))
        return array.view(array.shape[0], *np.shape(host))

    def _find_param(self, name: str) -> tuple[Any, str, Any]:
        """Where the engine keeps a model field, and MuJoCo's own value of it."""
        fields = [field for field in _batched_names(mjw.Model, "*") if np.size(getattr(self.model, field, ()))]
        options = [f"opt.{field}" for field in _batched_names(mjw.Option, "*") if hasattr(self.model.opt, field)]
        if name in _SIZE_FIELDS:
            raise BackendError(f"{name!r} cannot differ between worlds, its bounding volumes depend on it")
        if name in options:
            field = name.removeprefix("opt.")
            return self._m.opt, field, getattr(self.model.opt, field)
        if name in fields:
            return self._m, name, getattr(self.model, name)
        if hasattr(self.model, name) or (name.startswith("opt.") and hasattr(self.model.opt, name[4:])):
            raise BackendError(f"mujoco_warp cannot give each world its own {name!r}; use the cpu back end")
        raise unknown_name("model field", name, fields + options)

    def _expand(self, name: str) -> None:
        """Give each world its own row of a field. Graphs hold the old array, so they are captured again."""
        owner, field, _ = self._find_param(name)
        array = getattr(owner, field)
        if array.shape[0] == self.num_worlds:
            return
        rows = wp.to_torch(array).repeat_interleave(self.num_worlds, dim=0)
        setattr(owner, field, wp.from_torch(rows, dtype=array.dtype))
        self._graphs.clear()

    def world_model(self, world: int) -> mujoco.MjModel:
        """The model of one world with its own parameters, for rendering and replay."""
        model = copy.copy(self.model)
        for name in self._changed:
            row = self._param_view(name)[world].cpu().numpy()
            target, field = (model.opt, name.removeprefix("opt.")) if name.startswith("opt.") else (model, name)
            setattr(target, field, row.item() if row.ndim == 0 else row)
        if self._changed & set(mujoco.MjModel._setconst_inputs):
            mujoco.mj_setConst(model, mujoco.MjData(model))
        return model


def _find_device(name: str | None) -> Any:
    wp.init()
    cuda = [device.alias for device in wp.get_cuda_devices()]
    if name is None:
        name = cuda[0] if cuda else "cpu"
    wanted = f"{name}:0" if name == "cuda" else name
    if wanted != "cpu" and wanted not in cuda:
        raise BackendError(f"no device {name!r} for the warp back end; this machine has {', '.join(['cpu', *cuda])}")
    return wp.get_device(wanted)
