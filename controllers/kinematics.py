"""Forward kinematics and Jacobians of a serial arm in batched torch, from the same model the simulator compiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate
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
        reference: Joint positions of the model's zero pose, shape ``(n,)`` [rad] or [m].
        offset: Pose of each joint's body in its parent joint's body, at the zero pose, shape ``(n, 4, 4)``.
        axis: Joint axes in the body frame, shape ``(n, 3)``.
        anchor: Joint positions in the body frame, shape ``(n, 3)`` [m].
        tip: Pose of the site in the last body, shape ``(4, 4)``.
        mass: Mass that each joint's body carries, with everything welded or attached to it that is not a later joint of
            the chain, shape ``(n,)`` [kg].
        com: Its centre in the body frame, at the zero pose, shape ``(n, 3)`` [m].
        low: Joint limits, shape ``(n,)`` [rad] or [m]; infinite where the model has none.
        high: Joint limits, shape ``(n,)`` [rad] or [m].
    """

    joint_names: tuple[str, ...]
    qpos_index: tuple[int, ...]
    is_slide: tuple[bool, ...]
    reference: Tensor
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
            FermoError: There is no joint on the way, one is neither a hinge nor a slide, or a body has more than one.
        """
        path = _bodies_to(model, int(model.site(site).bodyid[0]))
        joints, offsets, pending = [], [], torch.eye(4, dtype=torch.float64)
        for body in path:
            pending = pending @ _pose(model.body_pos[body], model.body_quat[body])
            if model.body_jntnum[body] > 0:
                joints.append(_only_joint(model, body, site))
                offsets.append(pending)
                pending = torch.eye(4, dtype=torch.float64)
        if not joints:
            raise FermoError(f"site {site!r} does not move: there is no joint between it and the world")
        links = [int(model.jnt_bodyid[joint]) for joint in joints]
        carried = [_carried(model, link, links) for link in links]
        return cls(
            joint_names=tuple(model.joint(joint).name for joint in joints),
            qpos_index=tuple(int(model.jnt_qposadr[joint]) for joint in joints),
            is_slide=tuple(bool(model.jnt_type[joint] == _SLIDE) for joint in joints),
            reference=torch.tensor(model.qpos0[model.jnt_qposadr[joints]], dtype=dtype),
            offset=torch.stack(offsets).to(dtype),
            axis=torch.tensor(model.jnt_axis[joints], dtype=dtype),
            anchor=torch.tensor(model.jnt_pos[joints], dtype=dtype),
            tip=(pending @ _pose(model.site(site).pos, model.site(site).quat)).to(dtype),
            mass=torch.tensor([mass for mass, _ in carried], dtype=dtype),
            com=torch.stack([com for _, com in carried]).to(dtype),
            low=_limit(model, joints, 0).to(dtype),
            high=_limit(model, joints, 1).to(dtype),
        )

    def forward(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Pose of the site and its Jacobian.

        Args:
            q: Joint positions, shape ``(N, n)``.

        Returns:
            Position ``(N, 3)`` [m], rotation ``(N, 3, 3)`` and the geometric Jacobian ``(N, 6, n)``, linear rows first,
            in the world frame.
        """
        axis, anchor, pose = self._frames(q)
        tip = pose[:, -1] @ self.tip
        lever = torch.linalg.cross(axis, tip[:, None, :3, 3] - anchor)
        slide = torch.tensor(self.is_slide)[:, None]
        linear, angular = torch.where(slide, axis, lever), torch.where(slide, torch.zeros_like(axis), axis)
        return tip[:, :3, 3], tip[:, :3, :3], torch.cat([linear, angular], dim=2).transpose(1, 2)

    def reach(self) -> Tensor:
        r"""Bounds of :math:`\|\partial p / \partial q_j\|` over all poses, shape ``(n,)`` [m/rad], or 1 for a slide.

        A hinge moves the site by the distance between its axis and the site, which is at most the length of the polygon
        of anchors that leads from one to the other, with slides drawn out to their limits.
        """
        heads, tail = self.anchor[1:], self.tip[:3, 3]
        ends = (self.offset[1:, :3, :3] @ heads[:, :, None])[:, :, 0] + self.offset[1:, :3, 3]
        lengths = (torch.cat([ends, tail[None]]) - self.anchor).norm(dim=1)
        slide = torch.tensor(self.is_slide)
        drawn_out = torch.maximum((self.low - self.reference).abs(), (self.high - self.reference).abs())
        travel = torch.where(slide, drawn_out, torch.zeros_like(lengths))
        # the travel of joint j lengthens the way to j for the joints before it
        beyond = (lengths + travel).flip(0).cumsum(0).flip(0) - travel
        return torch.where(slide, torch.ones_like(beyond), beyond)

    def gravity_torque(self, q: Tensor, gravity: float = 9.81) -> Tensor:
        """Joint torques that hold the chain against gravity along -z: dV/dq of V = sum m g z, ``(N, n)`` [N m]."""
        axis, anchor, pose = self._frames(q)
        com = (pose[:, :, :3, :3] @ self.com[:, :, None])[..., 0] + pose[:, :, :3, 3]
        # what joint i moves is everything from body i on
        mass = self.mass.flip(0).cumsum(0).flip(0)[:, None]
        moment = (self.mass[:, None] * com).flip(1).cumsum(1).flip(1)
        slide = torch.tensor(self.is_slide)[:, None]
        lift = torch.where(slide, mass * axis, torch.linalg.cross(axis, moment - mass * anchor))
        return gravity * lift[:, :, 2]

    def _frames(self, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """World joint axes ``(N, n, 3)``, joint anchors ``(N, n, 3)`` [m] and body poses ``(N, n, 4, 4)``."""
        links = (self.offset @ self._motion(q - self.reference)).unbind(dim=1)
        pose = torch.stack(list(accumulate(links, torch.matmul)), dim=1)
        # a hinge moves neither its axis nor its anchor, and of a slide only the axis counts
        axis = (pose[:, :, :3, :3] @ self.axis[:, :, None])[..., 0]
        anchor = (pose[:, :, :3, :3] @ self.anchor[:, :, None])[..., 0] + pose[:, :, :3, 3]
        return axis, anchor, pose

    def _motion(self, travel: Tensor) -> Tensor:
        """Homogeneous transforms of the joints, ``(N, n, 4, 4)``; rotation by Rodrigues' formula about the anchor."""
        slide = torch.tensor(self.is_slide)
        angle, shift = torch.where(slide, 0.0, travel), torch.where(slide, travel, 0.0)
        x, y, z = self.axis.unbind(dim=1)
        zero = torch.zeros_like(x)
        k = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3)
        sin, cos = torch.sin(angle)[:, :, None, None], torch.cos(angle)[:, :, None, None]
        rotation = torch.eye(3, dtype=travel.dtype) + sin * k + (1.0 - cos) * (k @ k)
        moved_anchor = (rotation @ self.anchor[:, :, None])[..., 0]
        translation = self.anchor - moved_anchor + shift[:, :, None] * self.axis
        bottom = torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=travel.dtype).expand(*travel.shape, 1, 4)
        return torch.cat([torch.cat([rotation, translation[..., None]], dim=3), bottom], dim=2)


def rotation_vector(rotation: Tensor) -> Tensor:
    """Axis times angle of rotation matrices ``(N, 3, 3)``, shape ``(N, 3)`` [rad], angles up to and including pi."""
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
    vector = 0.5 * factor[:, None] * skew
    near_half_turn = (sine < 1e-4) & (cosine < 0.0)
    return torch.where(near_half_turn[:, None], angle[:, None] * _half_turn_axis(rotation, skew), vector)


def _half_turn_axis(rotation: Tensor, skew: Tensor) -> Tensor:
    """Unit axes ``(N, 3)`` u for angles a close to pi, from R + R' = 2 cos(a) I + 2 (1 - cos(a)) u u'."""
    cosine = 0.5 * (rotation.diagonal(dim1=1, dim2=2).sum(dim=1) - 1.0)
    outer = 0.5 * (rotation + rotation.transpose(1, 2)) - cosine[:, None, None] * torch.eye(3, dtype=rotation.dtype)
    largest = outer.diagonal(dim1=1, dim2=2).argmax(dim=1)
    axis = outer[torch.arange(len(outer)), :, largest]
    axis = axis / axis.norm(dim=1, keepdim=True).clamp(min=1e-12)
    return torch.where((axis * skew).sum(dim=1, keepdim=True) < 0.0, -axis, axis)


def _bodies_to(model: Any, body: int) -> list[int]:
    """The bodies from the world, left out, to `body`."""
    path = []
    while body != 0:
        path.append(body)
        body = int(model.body_parentid[body])
    return path[::-1]


def _only_joint(model: Any, body: int, site: str) -> int:
    joint = int(model.body_jntadr[body])
    if model.body_jntnum[body] > 1 or model.jnt_type[joint] not in (_HINGE, _SLIDE):
        name = model.body(body).name
        raise FermoError(f"body {name!r} on the way to site {site!r} needs exactly one hinge or slide")
    return joint


def _limit(model: Any, joints: list[int], side: int) -> Tensor:
    """Lower (0) or upper (1) limits; the range of a joint without limits reads 0 in MuJoCo."""
    limits = torch.tensor(model.jnt_range[joints, side])
    free = torch.full_like(limits, math.inf if side else -math.inf)
    return torch.where(torch.tensor(model.jnt_limited[joints], dtype=torch.bool), limits, free)


def _carried(model: Any, body: int, links: list[int]) -> tuple[float, Tensor]:
    """Mass and centre, in `body`'s frame, of a body and of what hangs on it up to the next link, at the zero pose."""
    mass = float(model.body_mass[body])
    moment = mass * torch.tensor(model.body_ipos[body])
    for child in range(body + 1, model.nbody):
        if model.body_parentid[child] == body and child not in links:
            pose = _pose(model.body_pos[child], model.body_quat[child])
            child_mass, child_com = _carried(model, child, links)
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
        ],
        dtype=torch.float64,
    )
    pose[:3, 3] = torch.tensor(position)
    return pose
