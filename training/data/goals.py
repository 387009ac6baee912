"""Which observations of an episode's future a window is told to reach, and goals that the dataset names itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from fermo.errors import FermoError, unknown_name
from fermo.policies.window import ColumnGoal, FutureGoal
from fermo.training.data.reader import Dataset


def goal_frames(goal: FutureGoal, now: Tensor, last: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Those that samples are told to reach; arguments and answer as of `future_goal_frames`."""
    if goal.truncated:
        return truncated_goal_frames(now, last, goal.frames, u)
    at_end = u < goal.ends
    further = (u - goal.ends) / max(1.0 - goal.ends, torch.finfo(u.dtype).tiny)
    return future_goal_frames(now, last, goal.frames, torch.where(at_end, 1.0, further))


def future_goal_frames(now: Tensor, last: Tensor, frames: int, u: Tensor) -> tuple[Tensor, Tensor]:
    """Uniform over what lies ahead, the last frame included, for which the frames are moved back where it must be.

    Args:
        now: Frame numbers, shape ``(B,)``.
        last: The last frame of each one's episode, ``(B,)``.
        frames: G, successive frames of a goal.
        u: Uniform in [0, 1), ``(B,)``; at 1 it is the last.

    Returns:
        Frame numbers ``(B, G)``, and whether there is a goal, ``(B,)`` bool.
    """
    latest = last - frames + 1
    first = _between(torch.minimum(now + 1, latest), latest, u)
    return first[:, None] + torch.arange(frames, device=now.device), torch.ones_like(now, dtype=torch.bool)


def truncated_goal_frames(now: Tensor, last: Tensor, frames: int, u: Tensor) -> tuple[Tensor, Tensor]:
    """As BESO's released code draws them: the last frame is never a goal, and where none is left there is no goal.

    It is a defect, since the goal is always the last frame when the policy is tested; see `future_goal_frames`.
    """
    earliest, latest = now + 1, last - frames
    first = _between(torch.minimum(earliest, latest.clamp_min(0)), latest.clamp_min(0), u)
    return first[:, None] + torch.arange(frames, device=now.device), earliest <= latest


def check_goal_lengths(lengths: Tensor, goal: FutureGoal) -> None:
    """Raise `FermoError` for the first episode too short for its first frame to have a goal ahead; lengths ``(E,)``."""
    short = lengths <= goal.frames
    if short.any():
        episode = int(short.nonzero()[0])
        raise FermoError(f"episode {episode} has {int(lengths[episode])} frames, and a goal of {goal.frames} from its "
                         f"future needs at least {goal.frames + 1}: leave it out, or choose another goal")  # fmt: skip


def column_goals(dataset: Dataset, goal: ColumnGoal) -> Tensor:
    """The goal at each frame, shape ``(F, size)``.

    Raises:
        FermoError: The dataset has no such column, or it is of another width, not finite, or counts too far.
    """
    if goal.name not in dataset.extras:
        raise unknown_name("goal column", goal.name, dataset.extras)
    column = torch.from_numpy(dataset.extras[goal.name])
    if goal.one_hot:
        numbers = column.reshape(len(column), -1)[:, 0].long()
        if column.numel() != len(column) or (numbers != column.reshape(-1)).any():
            raise FermoError(f"column {goal.name!r} of shape {tuple(column.shape)} must hold one whole number a frame")
        if numbers.min() < 0 or numbers.max() >= goal.size:
            found = f"{int(numbers.min())} to {int(numbers.max())}"
            raise FermoError(f"column {goal.name!r} counts from {found}, the policy's goals from 0 to {goal.size - 1}")
        return F.one_hot(numbers, goal.size).float()
    values = column.reshape(len(column), -1).float()
    if values.shape[1] != goal.size or not values.isfinite().all():
        raise FermoError(f"column {goal.name!r} must hold {goal.size} finite numbers a frame, it has {values.shape[1]}")
    return values


def _between(low: Tensor, high: Tensor, u: Tensor) -> Tensor:
    """A whole number from low to high, both included."""
    return low + (u * (high - low + 1)).long().clamp_max(high - low)
