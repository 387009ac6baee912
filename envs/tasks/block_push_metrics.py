"""What was achieved in an episode of BlockPush: pure batched functions of where blocks and targets were.

Blocks and targets are numbered 0 and 1 here. A *mode* is the way an episode is solved, one of four: which block goes
first and to which target; the other block is left with the other target.
"""

from __future__ import annotations

import torch
from torch import Tensor

MODES = 4


def inside(blocks: Tensor, targets: Tensor, tolerance: float) -> Tensor:
    """Whether block b is nearer than `tolerance` [m] to target t, ``(..., 2, 2)`` bool over (b, t).

    Args:
        blocks: Positions [m], shape ``(..., 2, 2)`` over (block, xy).
        targets: Positions [m], shape ``(..., 2, 2)`` over (target, xy), broadcast against the blocks'.
        tolerance: [m].
    """
    return (blocks[..., :, None, :] - targets[..., None, :, :]).norm(dim=-1) < tolerance


def placed(inside: Tensor) -> Tensor:
    """Whether both blocks sit in targets that differ, ``(...)`` bool, given `inside` ``(..., 2, 2)``."""
    return (inside[..., 0, 0] & inside[..., 1, 1]) | (inside[..., 0, 1] & inside[..., 1, 0])


def first_entries(blocks: Tensor, targets: Tensor, lengths: Tensor, tolerance: float) -> Tensor:
    """The control step, counted from 1, at which block b first sat in target t; 0 for never. ``(N, 2, 2)`` int64.

    Args:
        blocks: Positions after each step [m], shape ``(N, T, 2, 2)`` over (step, block, xy).
        targets: Positions [m], shape ``(N, 2, 2)`` over (target, xy).
        lengths: Steps that count, shape ``(N,)``; later ones are no part of the episode.
        tolerance: What counts as sitting in a target [m].
    """
    steps = torch.arange(1, blocks.shape[1] + 1, device=blocks.device)
    counts = (steps <= lengths[:, None])[:, :, None, None]
    sat = inside(blocks, targets[:, None], tolerance) & counts
    return torch.where(sat.any(dim=1), 1 + sat.int().argmax(dim=1), 0)


def achieved_pairs(entries: Tensor) -> Tensor:
    """Whether block b ever sat in target t, ``(N, 2, 2)`` bool, given `first_entries`."""
    return entries > 0


def mode(entries: Tensor) -> Tensor:
    """The episode's mode, ``(N,)`` int64: 2 b + t for the pair (b, t) that was first; -1 where none ever was.

    Args:
        entries: As `first_entries` gives them, shape ``(N, 2, 2)``.
    """
    order = torch.where(entries > 0, entries, torch.iinfo(entries.dtype).max).flatten(1)
    return torch.where((entries > 0).flatten(1).any(dim=1), order.argmin(dim=1), -1)


def assignment(modes: Tensor) -> tuple[Tensor, Tensor]:
    """The block that goes first ``(N,)``, and the target of each block ``(N, 2)``, both int64, of `modes` ``(N,)``."""
    first_block, first_target = modes // 2, modes % 2
    swapped = first_block != first_target
    return first_block, torch.stack([swapped, ~swapped], dim=-1).to(modes.dtype)


def wanted_pairs(goal: Tensor, targets: Tensor) -> Tensor:
    """The pairs (b, t) that a goal asks for: each block in the target nearest to its goal, ``(N, 2, 2)`` bool.

    Args:
        goal: Where the blocks shall lie [m], shape ``(N, 2, 2)`` over (block, xy).
        targets: Positions [m], shape ``(N, 2, 2)`` over (target, xy).
    """
    distance = (goal[:, :, None] - targets[:, None]).norm(dim=-1)
    return torch.nn.functional.one_hot(distance.argmin(dim=-1), 2).bool()


def result(achieved: Tensor, wanted: Tensor) -> Tensor:
    """The benchmark's *result* |achieved and wanted| / 2, ``(N,)`` float64; the order is not looked at."""
    return (achieved & wanted).flatten(1).sum(dim=1).double() / 2.0


def remaining(blocks: Tensor, targets: Tensor, wanted: Tensor, lengths: Tensor) -> Tensor:
    """How far the blocks are from the targets they shall go to in the end, over how far they were at first, ``(N,)``.

    It is 1 where nothing was moved and more where blocks were pushed away, and tells policies apart that achieve no
    pair yet.

    Args:
        blocks: Positions after each step [m], shape ``(N, T, 2, 2)`` over (step, block, xy).
        targets: Positions [m], shape ``(N, 2, 2)`` over (target, xy).
        wanted: As `wanted_pairs` gives them, shape ``(N, 2, 2)`` bool.
        lengths: Steps that count, shape ``(N,)``.
    """
    goal = (wanted[..., None] * targets[:, None]).sum(dim=2)
    last = blocks[torch.arange(len(blocks), device=blocks.device), lengths - 1]
    first, end = ((each - goal).norm(dim=-1).sum(dim=-1) for each in (blocks[:, 0], last))
    return end / first


def mirrored(targets: Tensor) -> Tensor:
    """Whether target 0 lies to the right of target 1, at the greater x, ``(N,)`` bool."""
    return targets[:, 0, 0] > targets[:, 1, 0]
