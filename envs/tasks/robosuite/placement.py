"""Where objects stand when an episode begins: robosuite's ``UniformRandomSampler``, for many worlds at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from fermo.envs.adapters.robosuite import Placement
from fermo.envs.core.random import WorldRandom
from fermo.errors import FermoError

_TRIES = 5000  # as many as robosuite's


def place(placements: Sequence[Placement], random: WorldRandom) -> list[Tensor]:
    """Poses ``(K, 7)`` of each object, position [m] and quaternion w x y z, of which no two overlap.

    Objects are placed one after the other. One that would overlap, seen from above, with another that is not below it
    is drawn again.

    Raises:
        FermoError: The ranges leave no room.
    """
    poses: list[Tensor] = []
    for index, item in enumerate(placements):
        position = _draw(item, random, step=0)
        pending = _overlaps(position, item, poses, placements)
        for step in range(1, _TRIES):
            if not pending.any():
                break
            position = torch.where(pending[:, None], _draw(item, random, step), position)
            pending = _overlaps(position, item, poses, placements)
        else:
            raise FermoError(f"{item.body} cannot be placed beside {', '.join(p.body for p in placements[:index])}")
        half = random.uniform(f"{item.body} angle", low=item.angle[0], high=item.angle[1]) / 2.0
        zero = torch.zeros_like(half)
        poses.append(torch.cat([position, torch.stack([half.cos(), zero, zero, half.sin()], dim=1)], dim=1))
    return poses


def _draw(item: Placement, random: WorldRandom, step: int) -> Tensor:
    unit = random.uniform(f"{item.body} position", (2,), step=step)
    low = torch.tensor([item.x[0], item.y[0]], dtype=unit.dtype, device=unit.device)
    high = torch.tensor([item.x[1], item.y[1]], dtype=unit.dtype, device=unit.device)
    plane = low + (high - low) * unit + torch.tensor(item.reference[:2], dtype=unit.dtype, device=unit.device)
    return torch.cat([plane, torch.full_like(plane[:, :1], item.lift + item.reference[2] - item.bottom)], dim=1)


def _overlaps(position: Tensor, item: Placement, poses: Sequence[Tensor], placements: Sequence[Placement]) -> Tensor:
    """Worlds in which `item` at `position` ``(K, 3)`` overlaps with an object that stands already, ``(K,)`` bool."""
    overlap = torch.zeros_like(position[:, 0], dtype=torch.bool)
    for pose, other in zip(poses, placements, strict=False):
        near = torch.linalg.vector_norm(position[:, :2] - pose[:, :2], dim=1) <= other.radius + item.radius
        overlap |= near & (position[:, 2] - pose[:, 2] <= other.top - item.bottom)
    return overlap
