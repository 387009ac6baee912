"""Different objects in different worlds of one batch.

All worlds share one model's structure, so an object is a body with a fixed number of mesh geoms, its *slots*, one for
each convex hull. MuJoCo compiles the scene once for each object, with every object's meshes in the model; whatever the
compiled models differ in is what must differ between worlds: mesh ids, poses and bounds of the geoms, mass and inertia
of the body. Constants that MuJoCo derives from those are recomputed by the back end.

A slot that an object does not need takes part in nothing: the CPU back end lets it touch nothing, and mujoco_warp
leaves out a geom whose mesh id is -1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mujoco
import mujoco.batch
import numpy as np
import torch
from torch import Tensor

from fermo.envs.core.backend import Backend, BackendError
from fermo.errors import unknown_name

_BOUNDS = frozenset({"geom_size", "geom_aabb", "geom_rbound"})  # MuJoCo derives them for primitives, not for meshes
_TOUCH = ("geom_contype", "geom_conaffinity")
_ABSENT_SIZE = 1e-3
"""Edge of the mesh in a slot that is not needed [m]."""


@dataclass(frozen=True, kw_only=True)
class MeshObject:
    """A rigid object of convex parts.

    Attributes:
        name: For messages, and for its meshes in the model.
        hulls: Convex parts in one frame: mesh files, or vertices ``(K, 3)`` [m] whose hull is meant.
        density: [kg/m^3].
    """

    name: str
    hulls: tuple[Path | np.ndarray, ...]
    density: float = 1000.0

    def __post_init__(self) -> None:
        if not self.hulls or self.density <= 0:
            raise BackendError(f"object {self.name!r} needs at least one hull and a positive density")


class ObjectSet:
    """Objects of which each world of a batch holds one.

    Attributes:
        names: Of the objects; number i is ``names[i]``.
        model: What to make the back end with; it holds object 0.
        models: The model with each object in turn, as MuJoCo compiled it; for looking at.
    """

    def __init__(self, names: Sequence[str], models: Sequence[mujoco.MjModel], absent: Tensor) -> None:
        self.names, self.models, self.model = tuple(names), tuple(models), models[0]
        self._absent = absent  # (objects, ngeom) bool
        self._rows: dict[tuple[str, torch.device], dict[str, Tensor]] = {}

    @property
    def varying(self) -> tuple[str, ...]:
        """The fields that `apply` sets on the Warp back end: its ``varying`` option."""
        return tuple(self._fields("warp"))

    def apply(self, backend: Backend, objects: Tensor, mask: Tensor | None = None) -> None:
        """Put object number ``objects[i]`` into world i, for the worlds of `mask`; the body's pose stays.

        Follow with `reset` or `forward`. Nothing waits for the device, so it may be part of a captured graph.

        Args:
            backend: Made with `model`, or with a model of the same layout.
            objects: Numbers below ``len(names)``, shape ``(N,)`` int64.
            mask: Worlds, shape ``(N,)`` bool; all when None.
        """
        if objects.shape != (backend.num_worlds,) or objects.dtype != torch.int64:
            raise BackendError(f"objects has shape ({backend.num_worlds},) int64 here, got {tuple(objects.shape)} "
                               f"{objects.dtype}")  # fmt: skip
        if backend.model.ngeom != self.model.ngeom or backend.model.nmesh != self.model.nmesh:
            raise BackendError("the back end was made with another model than the object set's")
        if backend.name == "warp" and backend.num_worlds == 1 and self._absent.any():
            raise BackendError("mujoco_warp has no absent meshes in a single world: use two, or one object")
        key = backend.name, backend.device
        if key not in self._rows:
            self._rows[key] = {name: rows.to(backend.device) for name, rows in self._fields(backend.name).items()}
        backend.set_params({name: rows[objects] for name, rows in self._rows[key].items()}, mask)

    def _fields(self, backend: str) -> dict[str, Tensor]:
        """Every field that differs between the objects and follows from no other, rows ``(objects, ...)``."""
        rows = {name: np.stack([getattr(model, name) for model in self.models]) for name in _shared_fields(self.model)}
        fields = {name: torch.as_tensor(row) for name, row in rows.items() if (row != row[:1]).any()}
        fields |= {name: torch.as_tensor(rows[name]) for name in ("geom_dataid", *_BOUNDS)}  # they go together
        if backend == "warp":
            fields["geom_dataid"] = fields["geom_dataid"].masked_fill(self._absent, -1)
        elif self._absent.any():
            fields |= {name: torch.as_tensor(rows[name]).masked_fill(self._absent, 0) for name in _TOUCH}
        return fields


def compile_objects(spec: mujoco.MjSpec, body: str, objects: Sequence[MeshObject], *, slots: int | None = None,
                    friction: tuple[float, float, float] | None = None) -> ObjectSet:  # fmt: skip
    """Compile a scene with each of the objects in turn as the body called `body`.

    Args:
        spec: The scene; it is not changed. The body exists, with its joint, and gets the hulls as geoms.
        body: Name of the body.
        objects: What it may be.
        slots: Geoms to set aside; as many as the object with most hulls has when None.
        friction: Of the hulls; the scene's default when None.

    Raises:
        BackendError: No objects or two of one name, no such body, an object that does not fit its slots, or a mesh that
            MuJoCo refuses.
    """
    names = [each.name for each in objects]
    if not objects or len(set(names)) < len(names):
        raise BackendError(f"an object set needs objects with names of their own, got {names}")
    bodies = [each.name for each in spec.bodies]
    if body not in bodies:
        raise unknown_name("body", body, bodies)
    slots = slots or max(len(each.hulls) for each in objects)
    for each in objects:
        if len(each.hulls) > slots:
            raise BackendError(f"object {each.name!r} has {len(each.hulls)} hulls and the set {slots} slots: give it "
                               f"slots={len(each.hulls)}, or fewer hulls")  # fmt: skip
    models = [_compile(spec, body, objects, index, slots, friction) for index in range(len(objects))]
    absent = torch.zeros(len(objects), models[0].ngeom, dtype=torch.bool)
    for row, each in zip(absent, objects, strict=True):
        for slot in range(len(each.hulls), slots):
            row[models[0].geom(_slot(body, slot)).id] = True
    return ObjectSet(names, models, absent)


def _compile(spec: mujoco.MjSpec, body: str, objects: Sequence[MeshObject], chosen: int, slots: int,
             friction: tuple[float, float, float] | None) -> mujoco.MjModel:  # fmt: skip
    scene = spec.copy()
    for each in objects:
        for index, hull in enumerate(each.hulls):
            _add_mesh(scene, _mesh(each, index), hull)
    _add_mesh(scene, "absent", _ABSENT_SIZE * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]))
    this = objects[chosen]
    for slot in range(slots):
        present = slot < len(this.hulls)
        geom = scene.body(body).add_geom(
            name=_slot(body, slot), type=mujoco.mjtGeom.mjGEOM_MESH, density=this.density if present else 0.0,
            meshname=_mesh(this, slot) if present else "absent",
        )  # fmt: skip
        if friction is not None:
            geom.friction = friction
    try:
        return scene.compile()
    except ValueError as error:
        raise BackendError(f"object {this.name!r} does not compile: {error}") from error


def _add_mesh(scene: mujoco.MjSpec, name: str, hull: Path | np.ndarray) -> None:
    mesh = scene.add_mesh(name=name, inertia=mujoco.mjtMeshInertia.mjMESH_INERTIA_CONVEX)
    if isinstance(hull, Path):
        mesh.file = str(hull.resolve())
    else:
        mesh.uservert = np.asarray(hull, dtype=np.float64).ravel()


def _slot(body: str, slot: int) -> str:
    return f"{body}_hull{slot}"


def _mesh(thing: MeshObject, index: int) -> str:
    return f"{thing.name}_{index}"


def _shared_fields(model: mujoco.MjModel) -> list[str]:
    """Fields that can differ between worlds and that nothing else determines."""
    outputs = mujoco.MjModel._setconst_outputs
    names = [name for name in mujoco.batch.MODEL_FIELDS if name in _BOUNDS or name not in outputs]
    return sorted(name for name in names if isinstance(getattr(model, name, None), np.ndarray))
