"""Model fields that differ between worlds, on the Warp back end: set in place, derived constants recomputed there."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp
from torch import Tensor

from fermo.envs.core.backend import BackendError
from fermo.envs.core.parameters import check_together, inside, limits, refusal
from fermo.errors import unknown_name

_DERIVED = ("body_subtreemass", "body_invweight0", "dof_invweight0", "tendon_length0", "tendon_invweight0", "eq_data",
            "cam_pos0", "cam_poscom0", "cam_mat0", "light_pos0", "light_poscom0", "light_dir0",
            "actuator_acc0")  # fmt: skip
"""What ``mjw.set_const_0`` and the masses in ``mjw.set_const_fixed`` write."""
_BOUNDS = ("geom_size", "geom_aabb", "geom_rbound")
"""What ``mjw.set_const_fixed`` writes for every geom, so that all of them vary or none does."""


class WarpParameters:
    """The per-world fields of one `mujoco_warp` model.

    A field that all worlds share has one row on the device. It gets a row a world when it is first set, or when named
    in `varying`; later values are copied into these rows, so that a captured graph sees them.

    Args:
        model: The compiled model.
        m: The same on the device.
        d: The worlds; their positions are borrowed to derive constants.
        num_worlds: N.
        varying: Fields to expand now.

    Attributes:
        version: Counts how often arrays were replaced.
        changed: Names of the fields that were set.
    """

    def __init__(self, model: mujoco.MjModel, m: Any, d: Any, num_worlds: int, varying: Iterable[str] = ()) -> None:
        self._model, self._m, self._d, self._num_worlds = model, m, d, num_worlds
        self._everyone = torch.ones(num_worlds, dtype=torch.bool, device=wp.device_to_torch(d.qpos.device))
        self._refused: dict[str, Tensor] = {}
        self.changed: set[str] = set()
        self._views: dict[str, Tensor] = {}
        self.version = 0
        for name in varying:
            self._expand(name)

    def get(self, name: str) -> Tensor:
        """See `Backend.get_param`."""
        rows = self._view(name)
        return rows.expand(self._num_worlds, *rows.shape[1:]).clone()

    def set(self, values: Mapping[str, Tensor], mask: Tensor | None) -> None:
        """See `Backend.set_params`; nothing here waits for the device."""
        check_together(values)
        chosen = self._everyone if mask is None else mask
        checked = {name: self._checked(name, rows, chosen) for name, rows in values.items()}
        for _, good in checked.values():
            chosen = chosen & good
        for name, (rows, _) in checked.items():
            self._expand(name)
            _write(self._view(name), rows, chosen)
            self.changed.add(name)
        if "geom_size" in values:
            self._derive(mjw.set_const_fixed, chosen, [name for name in _BOUNDS if name not in values],
                         keep=["body_subtreemass", *(name for name in _BOUNDS if name in values)])  # fmt: skip
        if any(map(_has_derived, values)):
            self._derive(mjw.set_const, chosen, _DERIVED, keep=_BOUNDS)

    def _checked(self, name: str, values: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """The rows on the device, and which worlds' are fit; whether a chosen one is not is kept for `check`."""
        shape = (self._num_worlds, *self._view(name).shape[1:])
        if tuple(values.shape) != shape:
            raise BackendError(f"parameter {name!r} has shape {shape} (one row a world), got {tuple(values.shape)}")
        rows = values.to(self._everyone.device)
        good = inside(rows, *limits(self._model, name))
        if name not in self._refused:
            self._refused[name] = torch.zeros_like(self._everyone)
        self._refused[name] |= chosen & ~good
        return rows, good

    def check(self) -> None:
        """Raise `BackendError` if values were refused since the last call."""
        for name, worlds in self._refused.items():
            if worlds.any():
                numbers = torch.nonzero(worlds).flatten().tolist()
                worlds.zero_()
                raise refusal(self._model, name, numbers)

    def _derive(self, compute: Any, chosen: Tensor, names: Iterable[str], keep: Iterable[str]) -> None:
        """Recompute the constants called `names` in the worlds chosen; the others, and `keep`, stay to the last bit."""
        names, keep = ([name for name in some if getattr(self._m, name).size] for some in (names, keep))
        before = {name: self._view(name).clone() for name in (*names, *keep)}
        compute(self._m, self._d)
        for name in names:
            _write(self._view(name), before[name], ~chosen)
        for name in keep:
            self._view(name).copy_(before[name])

    def _view(self, name: str) -> Tensor:
        """A live view in MuJoCo's own shape, one row if all worlds share it and N otherwise."""
        if name not in self._views:
            owner, field, host = self._find(name)
            array = wp.to_torch(getattr(owner, field))
            self._views[name] = array.view(array.shape[0], *np.shape(host))
        return self._views[name]

    def _find(self, name: str) -> tuple[Any, str, Any]:
        """Where the engine keeps a model field, and MuJoCo's own value of it."""
        fields = [field for field in batched_names(mjw.Model, "*") if np.size(getattr(self._model, field, ()))]
        options = [f"opt.{field}" for field in batched_names(mjw.Option, "*") if hasattr(self._model.opt, field)]
        if name in options:
            field = name.removeprefix("opt.")
            return self._m.opt, field, getattr(self._model.opt, field)
        if name in fields:
            return self._m, name, getattr(self._model, name)
        if hasattr(self._model, name) or (name.startswith("opt.") and hasattr(self._model.opt, name[4:])):
            raise BackendError(f"mujoco_warp cannot give each world its own {name!r}; use the cpu back end")
        raise unknown_name("model field", name, fields + options)

    def _expand(self, name: str) -> None:
        """Give each world its own row of a field and of what derives from it. Captured graphs hold the old arrays."""
        also = _BOUNDS if name in _BOUNDS else _DERIVED if _has_derived(name) else ()
        owners = {name: self._find(name)[:2], **{each: (self._m, each) for each in also}}
        for owner, field in owners.values():
            array = getattr(owner, field)
            if array.size and array.shape[0] != self._num_worlds:
                rows = wp.to_torch(array).repeat_interleave(self._num_worlds, dim=0)
                setattr(owner, field, wp.from_torch(rows, dtype=array.dtype))
                self.version += 1
                self._views.clear()

    def world_model(self, world: int) -> mujoco.MjModel:
        """See `Backend.world_model`."""
        model = copy.copy(self._model)
        for name in self.changed:
            row = self._view(name)[world].cpu().numpy()
            target, field = (model.opt, name.removeprefix("opt.")) if name.startswith("opt.") else (model, name)
            setattr(target, field, row.item() if row.ndim == 0 else row)
        meshes = model.geom_type == int(mujoco.mjtGeom.mjGEOM_MESH)
        absent = meshes & (model.geom_dataid < 0)  # MuJoCo knows no absent mesh: one that touches nothing, unseen
        model.geom_dataid[absent] = self._model.geom_dataid[absent]
        model.geom_contype[absent] = model.geom_conaffinity[absent] = model.geom_rgba[absent, 3] = 0
        if self.changed & set(mujoco.MjModel._setconst_inputs):
            spheres = model.geom_rbound.copy()  # MuJoCo would put back those of the meshes the model was compiled with
            mujoco.mj_setConst(model, mujoco.MjData(model))
            model.geom_rbound[meshes] = spheres[meshes]
        return model


def _has_derived(name: str) -> bool:
    """Whether constants in `_DERIVED` follow from the field; a geom's own fields only give its bounds."""
    return name in mujoco.MjModel._setconst_inputs and not name.startswith(("geom_", "pair_"))


def batched_names(kind: type, first: str) -> list[str]:
    """Fields of a `mujoco_warp` dataclass whose arrays' first dimension is called `first`."""
    return [field.name for field in dataclasses.fields(kind) if (getattr(field.type, "shape", ()) or ("",))[0] == first]


def _write(field: Tensor, rows: Tensor, mask: Tensor) -> None:
    torch.where(mask.view(-1, *[1] * (field.ndim - 1)), rows.to(field.dtype), field, out=field)
