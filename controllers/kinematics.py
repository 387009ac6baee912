"""Forward kinematics and Jacobians of a serial arm in batched torch, from the same model the simulator compiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fermo.errors import FermoError

_HINGE, _SLIDE = 3, 2  # mjtJoint


@dataclass(frozen=True, kw_only=True)
class SerialChain:
    """The joints between a model's world and one of its sites, in order.

    Attributes:
        joint_names: n names.
        qpos_index: Where each joint stands in the model's ``qpos``, shape ``(n,)``.
        is_slide: Whether a joint translates, n flags.
        offset: Pose of each joint's body in its parent joint's body, at zero, shape ``(n, 4, 4)``.
        axis: Joint axes in the body frame, shape ``(n, 3)``.
        anchor: Joint positions in the body frame, shape ``(n, 3)`` [m].
        tip: Pose of the site in the last body, shape ``(4, 4)``.
        mass: Mass that each joint's body carries, with everything welded or attached to it that is not a later joint of the
            chain, shape ``(n,)`` [kg].
        com: Its centre in the body frame, at the model's zero pose, shape ``(n, 3)`` [m].
        low: Joint limits, shape ``(n,)`` [rad] or [m].
        high: Joint limits, shape ``(n,)`` [rad] or [m].
    """

    joint_names: tuple[str, ...]
    qpos_index: tuple[int, ...]
    is_slide: tuple[bool, ...]
    offset: Tensor
    axis: Tensor
    anchor: Tensor
    tip: Tensor
    mass: Tensor
    com: Tensor
    low: Tensor
    high: Tensor

    @classmethod
    def from_model(cls, model: Any, site: str, dtype: torch.dtype = torch.float64) -> SerialChain:
        """Read the chain that carries `site` out of a compiled ``mujoco.MjModel``.

        Raises:
            FermoError: A joint on the way is neither a hinge nor a slide, or a body has more than one joint.
        """
        path, body = [], int(model.site(site).bodyid[0])
        tip = _pose(model.site(site).pos, model.site(site).quat)
        while body != 0:
            path.append(body)
            body = int(model.body_parentid[body])
        names, index, slide, offsets, axes, anchors, limits = [], [], [], [], [], [], []
        pending = torch.eye(4, dtype=torch.float64)
        masses, coms = [], []
        for body in reversed(path):
            pending = pending @ _pose(model.body_pos[body], model.body_quat[body])
            if model.body_jntnum[body] == 0:
                continue
            joint = int(model.body_jntadr[body])
            if model.body_jntnum[body] > 1 or model.jnt_type[joint] not in (_HINGE, _SLIDE):
                raise FermoError(f"body {model.body(body).name!r} on the way to site {site!r} needs exactly one hinge or slide")
            names.append(model.joint(joint).name)
            index.append(int(model.jnt_qposadr[joint]))
            slide.append(bool(model.jnt_type[joint] == _SLIDE))
            offsets.append(pending)
            axes.append(torch.tensor(model.jnt_axis[joint]))
            anchors.append(torch.tensor(model.jnt_pos[joint]))
            limits.append(torch.tensor(model.jnt_range[joint]))
            mass, com = _carried(model, body, set(path))
            masses.append(mass)
            coms.append(com)
            pending = torch.eye(4, dtype=torch.float64)
        low, high = torch.stack(limits).to(dtype).unbind(dim=1)
        return cls(
            joint_names=tuple(names), qpos_index=tuple(index), is_slide=tuple(slide), offset=torch.stack(offsets).to(dtype),
            axis=torch.stack(axes).to(dtype), anchor=torch.stack(anchors).to(dtype), tip=(pending @ tip).to(dtype),
            mass=torch.tensor(masses, dtype=dtype), com=torch.stack(coms).to(dtype), low=low, high=high,
        )  # fmt: skip

    def gravity_torque(self, q: Tensor, gravity: float = 9.81) -> Tensor:
        """Joint torques that hold the chain against gravity along -z, shape ``(N, n)`` [N m]: dV/dq of V = sum m g z."""
        height, axes, anchors, coms = [], [], [], []
        pose = torch.eye(4, dtype=q.dtype).expand(len(q), 4, 4)
        for i in range(q.shape[1]):
            pose = pose @ self.offset[i]
            axes.append(pose[:, :3, :3] @ self.axis[i])
            anchors.append(pose[:, :3, :3] @ self.anchor[i] + pose[:, :3, 3])
            pose = pose @ self._motion(i, q[:, i])
            coms.append(pose[:, :3, :3] @ self.com[i] + pose[:, :3, 3])
        for i in range(q.shape[1]):
            carried = torch.stack(coms[i:], dim=1)
            lever = carried - anchors[i][:, None]
            axis = axes[i][:, None].expand_as(lever)
            lift = axis if self.is_slide[i] else torch.linalg.cross(axis, lever, dim=2)
            height.append((lift[:, :, 2] * self.mass[i:]).sum(dim=1))
        return gravity * torch.stack(height, dim=1)

    def forward(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pose of the site and its Jacobian.

        Args:
            q: Joint positions, shape ``(N, n)``.

        Returns:
            Position ``(N, 3)`` [m], rotation ``(N, 3, 3)`` and the geometric Jacobian ``(N, 6, n)``, linear rows first, in
            the world frame.
        """
        n_worlds, n = q.shape
        pose = torch.eye(4, dtype=q.dtype).expand(n_worlds, 4, 4)
        axes, anchors = [], []
        for i in range(n):
            pose = pose @ self.offset[i]
            axes.append(pose[:, :3, :3] @ self.axis[i])
            anchors.append(pose[:, :3, :3] @ self.anchor[i] + pose[:, :3, 3])
            pose = pose @ self._motion(i, q[:, i])
        pose = pose @ self.tip
        position, axis, anchor = pose[:, :3, 3], torch.stack(axes, dim=2), torch.stack(anchors, dim=2)
        slide = torch.tensor(self.is_slide)
        lever = torch.linalg.cross(axis, position[:, :, None] - anchor, dim=1)
        linear, angular = torch.where(slide, axis, lever), torch.where(slide, torch.zeros_like(axis), axis)
        return position, pose[:, :3, :3], torch.cat([linear, angular], dim=1)

    def _motion(self, i: int, q: Tensor) -> Tensor:
        """Homogeneous transform of joint i, shape ``(N, 4, 4)``; rotation by Rodrigues' formula about the anchor."""
        motion = torch.eye(4, dtype=q.dtype).repeat(len(q), 1, 1)
        if self.is_slide[i]:
            motion[:, :3, 3] = q[:, None] * self.axis[i]
            return motion
        x, y, z = self.axis[i].tolist()
        k = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=q.dtype)
        sin, cos = torch.sin(q)[:, None, None], torch.cos(q)[:, None, None]
        rotation = torch.eye(3, dtype=q.dtype) + sin * k + (1.0 - cos) * (k @ k)
        motion[:, :3, :3] = rotation
        motion[:, :3, 3] = self.anchor[i] - rotation @ self.anchor[i]
        return motion


def rotation_vector(rotation: Tensor) -> Tensor:
    """Axis times angle of rotation matrices ``(N, 3, 3)``, shape ``(N, 3)`` [rad], for angles below pi."""
    skew = torch.stack(
        [
            rotation[:, 2, 1] - rotation[:, 1, 2],
            rotation[:, 0, 2] - rotation[:, 2, 0],
            rotation[:, 1, 0] - rotation[:, 0, 1],
        ],
        dim=1,
    )
    sine = 0.5 * skew.norm(dim=1)
    cosine = 0.5 * (rotation.diagonal(dim1=1, dim2=2).sum(dim=1) - 1.0)
    angle = torch.atan2(sine, cosine)
    # angle / sin(angle) tends to 1 at zero, where the quotient would be 0 / 0
    factor = torch.where(sine > 1e-9, angle / sine.clamp(min=1e-9), torch.ones_like(sine))
    return 0.5 * factor[:, None] * skew


def _carried(model: Any, body: int, path: set[int]) -> tuple[float, Tensor]:
    """Mass and centre, in `body`'s frame, of a body and of what hangs on it besides the chain, at the zero pose."""
    mass = float(model.body_mass[body])
    moment = mass * torch.tensor(model.body_ipos[body])
    for child in range(body + 1, model.nbody):
        if model.body_parentid[child] == body and child not in path:
            pose = _pose(model.body_pos[child], model.body_quat[child])
            child_mass, child_com = _carried(model, child, path)
            mass += child_mass
            moment = moment + child_mass * (pose[:3, :3] @ child_com + pose[:3, 3])
    return mass, moment / max(mass, 1e-12)


def _pose(position: Any, quaternion: Any) -> Tensor:
    w, x, y, z = (float(v) for v in quaternion)
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose[:3, 3] = torch.tensor([float(v) for v in position])
    return pose
