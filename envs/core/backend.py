"""The back end contract: N worlds of one compiled model, stepped together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import mujoco
import torch
from torch import Tensor

from fermo.errors import FermoError


class BackendError(FermoError):
    """The engine cannot do what was asked, or a buffer overflowed."""


class Backend(Protocol):
    """N worlds of one model as torch tensors on `device`.

    Reading: `read(name)` returns a live view of any `mujoco.MjData` array the engine keeps, shape ``(N, ...)``:
    ``"qpos" (N, nq)``, ``"qvel" (N, nv)``, ``"time" (N,)`` [s], ``"sensordata" (N, ns)``, ``"xpos" (N, nbody, 3)``
    [m], ``"xquat" (N, nbody, 4)``, ... Treat views as read-only but for ``"xfrc_applied" (N, nbody, 6)`` [N, N m],
    ``"qfrc_applied" (N, nv)`` and ``"mocap_pos"/"mocap_quat"``, which are inputs, and ``"qpos"/"qvel"``, which may be
    changed just before a `step`. Derived arrays describe the state after the last `step` or `forward` up to the
    velocity stage; acceleration-stage arrays (``"cfrc_ext"``, ``"qacc"``, ``"actuator_force"``) describe the last
    substep, as after ``mj_step``. The first read of an array may compute all of them at the present state: read once,
    before stepping, whatever you will want.

    Attributes:
        name: Name in the registry, ``"cpu"`` or ``"warp"``.
        model: The compiled model the worlds started from.
        num_worlds: N.
        device: Where the tensors live.
        dtype: Of the state inside the engine.
        failed: Worlds that reached a non-finite or diverging state and are frozen, shape ``(N,)`` bool. The same
            tensor for the life of the back end.
        graph_safe: Whether `step`, `reset`, `forward`, `set_params` and `get_state` never wait for the device, so that
            a caller may capture them in a graph (`fermo.envs.core.warp_graph`). What the device finds wrong (an
            overflow, a parameter that is not finite) is then told by `check`.
        version: Changes when arrays are replaced; a graph captured before holds the old ones.
    """

    name: str
    model: mujoco.MjModel
    num_worlds: int
    device: torch.device
    dtype: torch.dtype
    failed: Tensor

    @property
    def graph_safe(self) -> bool: ...  # noqa: D102

    @property
    def version(self) -> int: ...  # noqa: D102

    def read(self, name: str) -> Tensor:
        """Live view of a data array, shape ``(N, ...)``. Raises `BackendError` naming what exists."""
        ...

    def step(self, ctrl: Tensor, substeps: int) -> None:
        """Apply `ctrl` ``(N, nu)`` for `substeps` physics steps, then refresh arrays up to the velocity stage."""
        ...

    def reset(self, mask: Tensor, qpos: Tensor, qvel: Tensor) -> None:
        """Put the worlds in `mask` ``(N,)`` bool at time zero in the states given, rows ``(N, nq)`` and ``(N, nv)``.

        Everything else of those worlds' state (actuator activations, warm starts, applied forces) returns to the
        model's defaults. Rows outside the mask are ignored. Follow with `forward`.
        """
        ...

    def forward(self, mask: Tensor) -> None:
        """Recompute the derived arrays of the worlds in `mask` from their state, all stages."""
        ...

    def get_param(self, name: str) -> Tensor:
        """Per-world values of a model field, shape ``(N, ...)``, a copy."""
        ...

    def set_param(self, name: str, values: Tensor, mask: Tensor | None = None) -> None:
        """Set a model field, rows ``(N, ...)``, in the worlds of `mask`.

        Constants that MuJoCo derives from mass, inertia, pose, armature or size are recomputed. Raises `BackendError`
        for a field that cannot differ between worlds and, here or at the next `check`, for values that are not finite
        or outside the field's limits; such worlds keep what they had.
        """
        ...

    def set_params(self, values: Mapping[str, Tensor], mask: Tensor | None = None) -> None:
        """Set several model fields as `set_param` does; what derives from them is recomputed once."""
        ...

    def check(self) -> None:
        """Raise `BackendError` for what went wrong on the device; waits for it.

        Buffers for contacts or constraint rows that overflowed (physics is wrong since) and parameters that were
        refused. Call it every few steps.
        """
        ...

    def parameters_set(self) -> tuple[str, ...]:
        """Model fields that were set for a world so far."""
        ...

    def late_arrays(self) -> dict[str, Tensor]:
        """Derived arrays that somebody reads and that may describe a state before the present one, live, by name."""
        ...

    def get_state(self) -> Tensor:
        """The state of every world, shape ``(N, nstate)``, a copy; with `set_state` an exact restore.

        It is laid out as MuJoCo's ``mjSTATE_INTEGRATION``, so that ``mj_setState`` takes a row of it.
        """
        ...

    def set_state(self, state: Tensor, mask: Tensor | None = None) -> None:
        """Restore what `get_state` returned and recompute derived arrays."""
        ...

    def world_model(self, world: int) -> mujoco.MjModel:
        """The model of one world with its own parameters, for rendering and replay."""
        ...


def make_backend(name: str, model: mujoco.MjModel, num_worlds: int, **options: object) -> Backend:
    """The back end called `name` (``"cpu"``, ``"warp"``), with its own options.

    Raises:
        FermoError: Unknown name, ``num_worlds < 1``, or a missing extra.
    """
    from fermo.errors import unknown_name

    if num_worlds < 1:
        raise BackendError(f"num_worlds must be at least 1, got {num_worlds}")
    if name == "cpu":
        from fermo.envs.core.backend_cpu import CpuBackend

        return CpuBackend(model, num_worlds, **options)  # type: ignore[arg-type]
    if name == "warp":
        from fermo.envs.core.backend_warp import WarpBackend

        return WarpBackend(model, num_worlds, **options)  # type: ignore[arg-type]
    raise unknown_name("back end", name, ("cpu", "warp"))
