"""Where mujoco_warp's contacts are not MuJoCo's, made the same."""

# A kernel is written in Warp's language, which type checkers take for Python.
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from typing import Any

import mujoco
import mujoco_warp as mjw
import warp as wp

_PLANE, _CAPSULE = int(mujoco.mjtGeom.mjGEOM_PLANE), int(mujoco.mjtGeom.mjGEOM_CAPSULE)


def follow_mujoco(model: mujoco.MjModel, m: Any) -> None:
    """Have the model `m` on the device make the contacts that MuJoCo makes.

    Two boxes touch in up to eight points, where the general convex algorithm finds one or four. Friction acts along and
    across a capsule that stands on a plane however steeply it stands, where mujoco_warp 3.17 takes the world's axes
    within 30 degrees of the vertical; the pyramid that stands for the friction cone depends on it.
    """
    m.opt.disableflags |= int(mjw.DisableBit.NATIVECCD)
    if (model.geom_type == _PLANE).any() and (model.geom_type == _CAPSULE).any():
        m.callback.contactfilter = _align_capsules


def _align_capsules(m: Any, d: Any) -> None:
    wp.launch(_align_kernel, dim=d.naconmax, inputs=[m.geom_type, d.geom_xmat, d.nacon, d.contact.geom,
              d.contact.worldid], outputs=[d.contact.frame])  # fmt: skip


@wp.kernel(module="unique", enable_backward=False)
def _align_kernel(
    geom_type: wp.array[int],
    geom_xmat: wp.array2d[wp.mat33],
    nacon: wp.array[int],
    contact_geom: wp.array[wp.vec2i],
    contact_world: wp.array[int],
    frame_out: wp.array[wp.mat33],
):
    """The first tangent is the capsule's axis, without its part along the normal."""
    contact = wp.tid()
    if contact >= nacon[0]:
        return
    geoms = contact_geom[contact]
    if geom_type[geoms[0]] != wp.static(_PLANE) or geom_type[geoms[1]] != wp.static(_CAPSULE):
        return
    frame = frame_out[contact]
    normal = wp.vec3(frame[0, 0], frame[0, 1], frame[0, 2])
    turn = geom_xmat[contact_world[contact], geoms[1]]
    axis = wp.vec3(turn[0, 2], turn[1, 2], turn[2, 2])
    along = axis - normal * wp.dot(normal, axis)
    if wp.length(along) < 1.0e-6:  # upright: any direction does
        return
    along = wp.normalize(along)
    across = wp.cross(normal, along)
    frame_out[contact] = wp.matrix_from_rows(normal, along, across)
