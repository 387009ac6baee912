"""Lighter meshes for pictures: CAD parts hold far more faces than a video has pixels."""

from __future__ import annotations

import mujoco
import numpy as np


def coarse_visuals(spec: mujoco.MjSpec, cell: float = 0.002) -> mujoco.MjModel:
    """A model for rendering only: every mesh keeps one vertex a cell of a grid (Rossignac and Borrel, 1993).

    The degrees of freedom, and so `qpos`, are those of `spec`; inertia and contact are not to be trusted. On the
    SO-101, cells of 2 mm leave a thirteenth of the faces and look the same at 320 x 240.

    Args:
        spec: What to simplify; it is left as it was.
        cell: Edge of a grid cell [m].
    """
    full, spec = spec.copy().compile(), spec.copy()
    for mesh in list(spec.meshes):
        vertices, faces = _cluster(*_original_mesh(full, full.mesh(mesh.name).id), cell)
        if len(faces) < 4:  # smaller than a cell: nothing to gain, and too little left to compile
            continue
        name = mesh.name
        spec.delete(mesh)
        # A shell, since clustering does not keep a volume closed.
        shell = mujoco.mjtMeshInertia.mjMESH_INERTIA_SHELL
        spec.add_mesh(name=name, uservert=vertices.ravel(), userface=faces.ravel(), inertia=shell)
    return spec.compile()


def _original_mesh(model: mujoco.MjModel, mesh: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices ``(V, 3)`` [m] in the frame the mesh file used, and faces ``(F, 3)``; compiling had centred them."""
    vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]].astype(float)
    faces = model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]]
    rotation = np.zeros(9)
    mujoco.mju_quat2Mat(rotation, model.mesh_quat[mesh])
    return vertices @ rotation.reshape(3, 3).T + model.mesh_pos[mesh], faces


def _cluster(vertices: np.ndarray, faces: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Merge the vertices of each grid cell into their mean and drop the faces that collapse."""
    _, group = np.unique(np.floor(vertices / cell).astype(np.int64), axis=0, return_inverse=True)
    group = group.ravel()
    count = np.bincount(group)
    merged = np.stack([np.bincount(group, vertices[:, axis]) / count for axis in range(3)], axis=1)
    kept = group[faces]
    a, b, c = kept.T
    kept = kept[(a != b) & (b != c) & (c != a)]
    first = np.argmin(kept, axis=1)[:, None]  # start every face at its smallest vertex, so that twins are equal
    return merged, np.unique(np.take_along_axis(kept, (first + np.arange(3)) % 3, axis=1), axis=0)
