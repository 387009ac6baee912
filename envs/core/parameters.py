"""Which values the per-world model fields may take, and which fields only make sense together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import mujoco
from torch import Tensor

from fermo.envs.core.backend import BackendError

MESH_FIELDS = ("geom_dataid", "geom_aabb", "geom_rbound")
"""A mesh and its bounds: a mesh with another mesh's bounds loses its contacts, so they are set in one call."""

_NOT_NEGATIVE = frozenset({
    "body_mass", "body_inertia", "dof_armature", "dof_frictionloss", "geom_size", "geom_friction", "geom_rbound",
    "tendon_armature", "tendon_frictionloss", "opt.timestep", "opt.tolerance", "opt.impratio",
})  # fmt: skip


def limits(model: mujoco.MjModel, name: str) -> tuple[float, float]:
    """The smallest and the largest value an entry of the field may have."""
    if name == "geom_dataid":
        return -1.0, model.nmesh + model.nhfield - 1.0
    return (0.0 if name in _NOT_NEGATIVE else float("-inf")), float("inf")


def inside(rows: Tensor, low: float, high: float) -> Tensor:
    """Which worlds' values are finite and within the limits, shape ``(N,)`` bool; `rows` is ``(N, ...)``."""
    good = rows.isfinite() & (rows >= low) & (rows <= high)
    return good.flatten(1).all(dim=1) if good.ndim > 1 else good


def refusal(model: mujoco.MjModel, name: str, worlds: Iterable[int]) -> BackendError:
    """The error for values that are not `inside`."""
    low, high = limits(model, name)
    allowed = "" if low == -float("inf") else f" or outside {low:g} .. {high:g}"
    return BackendError(f"parameter {name!r} got values that are not finite{allowed} in world(s) {list(worlds)[:8]}")


def check_together(values: Mapping[str, Tensor]) -> None:
    """Raise `BackendError` for a mesh without its bounds, or bounds without their mesh."""
    given = [name for name in MESH_FIELDS if name in values]
    if given and len(given) < len(MESH_FIELDS):
        raise BackendError(
            f"{given[0]!r} cannot be set alone: a mesh needs its bounds. Set {', '.join(MESH_FIELDS)} in one call, as "
            "fermo.envs.core.variants does; for a primitive set geom_size, and its bounds follow"
        )
