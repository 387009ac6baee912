"""Chains of way-points for a hand in a kitchen, and where the kitchen's moving parts are."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

Pointing = tuple[float, float, float]
"""Where a hand points, of any length."""

OPEN, SHUT = 0.04, 0.0
"""Position of each finger [m]."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way-point of the same hand in M worlds.

    Attributes:
        position: Of the finger tips, shape ``(M, 3)`` [m].
        pointing: Which way the hand points. The fingers open horizontally.
        roll: Of the hand about that direction [rad].
        opening: Position of each finger [m], from the start of the way to it.
        pace: How fast to go there, as a share of the usual speed.
        near: How near the hand must come [m].
        pause: Steps to stay there.
        leaving: Whether it serves only to leave, when all is done.
    """

    position: Tensor
    pointing: Pointing
    roll: float = 0.0
    opening: float = SHUT
    pace: float = 1.0
    near: float = 0.012
    pause: int = 0
    leaving: bool = False


@dataclass(frozen=True, kw_only=True)
class Ways:
    """K way-points of the finger tips in M worlds; the fields are those of `Way`.

    Attributes:
        position: Shape ``(M, K, 3)`` [m].
        rotation: Of the hand: z out of it, y along which the fingers open, ``(M, K, 3, 3)``.
        opening: Shape ``(M, K)`` [m].
        pace: Shape ``(M, K)``.
        near: Shape ``(M, K)`` [m].
        pause: Shape ``(M, K)`` int64.
        leaving: Shape ``(M, K)`` bool.
    """

    position: Tensor
    rotation: Tensor
    opening: Tensor
    pace: Tensor
    near: Tensor
    pause: Tensor
    leaving: Tensor

    def missing(self, aside: Tensor) -> Ways:
        """How a hand begins that misses by `aside` ``(M,)`` [m] along x and soon gives up: three way-points."""
        step = torch.nn.functional.pad(aside[:, None], (0, 2))
        first = {name: values[:, :3] for name, values in vars(self).items()}
        return Ways(**first | {"position": first["position"] + step[:, None]})


def chain(ways: list[Way]) -> Ways:
    """Way-points as tensors."""

    def each(values: list, dtype: torch.dtype) -> Tensor:
        return torch.tensor(values, dtype=dtype).expand(len(ways[0].position), -1)

    rotation = torch.stack([hand_rotation(way.pointing, way.roll) for way in ways])
    return Ways(
        position=torch.stack([way.position for way in ways], dim=1),
        rotation=rotation.expand(len(ways[0].position), -1, -1, -1),
        opening=each([way.opening for way in ways], torch.float64),
        pace=each([way.pace for way in ways], torch.float64),
        near=each([way.near for way in ways], torch.float64),
        pause=each([way.pause for way in ways], torch.int64),
        leaving=each([way.leaving for way in ways], torch.bool),
    )


def hand_rotation(pointing: Pointing, roll: float = 0.0) -> Tensor:
    """Rotation ``(3, 3)`` of a hand that points somewhere, its fingers opening horizontally before it rolls."""
    z = direction(pointing)
    y = direction((pointing[1], -pointing[0], 0.0))
    x = torch.linalg.cross(y, z)
    x, y = math.cos(roll) * x + math.sin(roll) * y, math.cos(roll) * y - math.sin(roll) * x
    return torch.stack([x, y, z], dim=1)


def direction(pointing: Pointing) -> Tensor:
    """`pointing` as a unit vector ``(3,)``."""
    return torch.nn.functional.normalize(row(*pointing), dim=0)


def row(x: float, y: float, z: float) -> Tensor:
    """A vector ``(3,)``, float64."""
    return torch.tensor([x, y, z], dtype=torch.float64)


class Part:
    """A moving part of the kitchen: where one of its sites is when its joint stands at a value.

    Args:
        model: Compiled model.
        joint: Name of a hinge or slide.
        site: Name of the site.

    Attributes:
        element: Of `qpos`, the joint's position.
        site: Where the site is when the joint stands at 0, shape ``(3,)`` [m].
    """

    def __init__(self, model: mujoco.MjModel, joint: str, site: str) -> None:
        data = mujoco.MjData(model)
        mujoco.mj_kinematics(model, data)
        number = model.joint(joint).id
        self.element = int(model.jnt_qposadr[number])
        vectors = (data.site(site).xpos, data.xaxis[number], data.xanchor[number])
        self.site, self._axis, self._anchor = (torch.from_numpy(vector.copy()) for vector in vectors)
        self._is_slide = model.jnt_type[number] == mujoco.mjtJoint.mjJNT_SLIDE

    def at(self, value: Tensor) -> Tensor:
        """Where the site is [m], ``(M, 3)``, for joint positions ``(M,)`` [rad] or [m]."""
        if self._is_slide:
            return self.site + value[:, None] * self._axis
        arm = self.site - self._anchor
        along = (arm @ self._axis) * self._axis
        across = arm - along
        turned = value.cos()[:, None] * across + value.sin()[:, None] * torch.linalg.cross(self._axis, across)
        return self._anchor + along + turned
