"""A scene in a browser, by viser: the geoms of a model, moved as a state moves them."""

from __future__ import annotations

import mujoco
import numpy as np

from fermo.envs.rendering.raycast import VISUAL_GROUPS
from fermo.envs.rendering.shading import Shader
from fermo.errors import FermoError

_PLANE_EXTENT = 5.0  # drawn half-width of a plane without bounds [m]


class WebScene:
    """Serves a model's visible geoms on ``http://localhost:port``.

    Args:
        model: Compiled model.
        port: TCP port; the next free one where it is taken.

    Attributes:
        port: The port taken.
        handles: viser's mesh of each geom that is drawn, by geom index.

    Raises:
        FermoError: The ``viewer`` extra is not installed.
    """

    def __init__(self, model: mujoco.MjModel, port: int = 8080) -> None:
        try:
            import viser
        except ImportError as error:
            raise FermoError('the browser viewer needs an extra: pip install "fermo[viewer]"') from error
        self._server = viser.ViserServer(port=port, verbose=False)
        self._server.scene.set_up_direction("+z")
        self.port = self._server.get_port()
        colours = (Shader(model).colours * 255).astype(int)
        self.handles = {}
        for geom in np.flatnonzero(VISUAL_GROUPS[model.geom_group]):
            mesh = _mesh(model, geom)
            if mesh is not None:
                red, green, blue = map(int, colours[geom])
                self.handles[geom] = self._server.scene.add_mesh_simple(
                    f"/geom{geom}", *mesh, color=(red, green, blue), flat_shading=True, side="double"
                )

    def show(self, data: mujoco.MjData) -> None:
        """Move the geoms to where `data` has them."""
        quaternion = np.zeros(4)
        with self._server.atomic():
            for geom, handle in self.handles.items():
                mujoco.mju_mat2Quat(quaternion, data.geom_xmat[geom])
                handle.position, handle.wxyz = data.geom_xpos[geom], quaternion.copy()

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()


def _mesh(model: mujoco.MjModel, geom: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Vertices ``(V, 3)`` [m] and faces ``(F, 3)`` in the geom's frame; None for kinds that are not drawn."""
    import trimesh  # viser brings it

    kind, size = mujoco.mjtGeom(model.geom_type[geom]), model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        vertices = model.mesh_vert[model.mesh_vertadr[mesh] :][: model.mesh_vertnum[mesh]]
        return vertices, model.mesh_face[model.mesh_faceadr[mesh] :][: model.mesh_facenum[mesh]]
    if kind == mujoco.mjtGeom.mjGEOM_PLANE:
        x, y = (side if side > 0 else _PLANE_EXTENT for side in size[:2])
        return np.array([[-x, -y, 0], [x, -y, 0], [x, y, 0], [-x, y, 0]]), np.array([[0, 1, 2], [0, 2, 3]])
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        shape = trimesh.creation.box(2 * size)
    elif kind in (mujoco.mjtGeom.mjGEOM_SPHERE, mujoco.mjtGeom.mjGEOM_ELLIPSOID):
        shape = trimesh.creation.icosphere(subdivisions=3)
        shape.apply_scale(size if kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID else size[0])
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        shape = trimesh.creation.capsule(height=2 * size[1], radius=size[0])
        shape.apply_translation([0, 0, -shape.bounds.mean(axis=0)[2]])
    elif kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        shape = trimesh.creation.cylinder(radius=size[0], height=2 * size[1])
    else:
        return None
    return np.asarray(shape.vertices), np.asarray(shape.faces)
