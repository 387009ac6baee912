"""What was achieved in an episode of FrankaKitchen: pure batched functions of the joints' and the kettle's positions.

Sub-tasks are numbered in the order of `SUBTASKS`. An *order* is which of them were finished, first to last.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fermo.envs.core.constants import constant


@dataclass(frozen=True, kw_only=True)
class Subtask:
    """One of seven things to do, as gymnasium-robotics defines it.

    Attributes:
        name: In the package.
        elements: Elements of `qpos` that count, first and one past the last; an observation has the same order.
        goal: Their values when it is done [rad], [m], or components of a quaternion w x y z.
    """

    name: str
    elements: tuple[int, int]
    goal: tuple[float, ...]


SUBTASKS = (
    Subtask(name="microwave", elements=(22, 23), goal=(-0.75,)),
    Subtask(name="kettle", elements=(23, 30), goal=(-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06)),
    Subtask(name="bottom burner", elements=(11, 13), goal=(-0.88, -0.01)),
    Subtask(name="top burner", elements=(15, 17), goal=(-0.92, -0.01)),
    Subtask(name="light switch", elements=(17, 19), goal=(-0.69, -0.05)),
    Subtask(name="slide cabinet", elements=(19, 20), goal=(0.37,)),
    Subtask(name="hinge cabinet", elements=(20, 22), goal=(0.0, 1.45)),
)
NAMES = tuple(subtask.name for subtask in SUBTASKS)
MICROWAVE, KETTLE, BOTTOM_BURNER, TOP_BURNER, LIGHT_SWITCH, SLIDE_CABINET, HINGE_CABINET = range(len(SUBTASKS))


def distances(qpos: Tensor) -> Tensor:
    """How far each sub-task is from its goal, ``(..., 7)``: Euclidean over its elements, whatever their units.

    Args:
        qpos: Shape ``(..., 30)``.
    """
    each = [qpos[..., slice(*s.elements)] - constant(s.goal, qpos.device) for s in SUBTASKS]
    return torch.stack([difference.norm(dim=-1) for difference in each], dim=-1)


def first_finishes(qpos: Tensor, lengths: Tensor, threshold: float) -> Tensor:
    """The control step, counted from 1, after which each sub-task first was done; 0 for never. ``(N, 7)`` int64.

    Args:
        qpos: After each step, shape ``(N, T, 30)``.
        lengths: Steps that count, shape ``(N,)``; later ones are no part of the episode.
        threshold: Distances below it count as done.
    """
    steps = torch.arange(1, qpos.shape[1] + 1, device=qpos.device)
    done = (distances(qpos) < threshold) & (steps <= lengths[:, None])[:, :, None]
    return torch.where(done.any(dim=1), 1 + done.int().argmax(dim=1), 0)


def order(finishes: Tensor, count: int = 4) -> Tensor:
    """Numbers of the first `count` sub-tasks that were finished, first to last, ``(N, count)`` int64; -1 for none.

    Args:
        finishes: As `first_finishes` gives them, shape ``(N, 7)``; of two in the same step the lower number is first.
        count: How many to tell.
    """
    never = torch.iinfo(finishes.dtype).max
    when, which = torch.where(finishes > 0, finishes, never).sort(dim=1, stable=True)
    return torch.where(when < never, which, -1)[:, :count]


def one_hot(orders: Tensor) -> Tensor:
    """`orders` ``(N, count)`` as ``(N, count, 7)`` float32: row k is 1 at the sub-task that was k-th, 0 for none."""
    return (orders[..., None] == torch.arange(len(SUBTASKS), device=orders.device)).float()


def result(finishes: Tensor, wanted: Tensor) -> Tensor:
    """The benchmark's *result*: how many of the wanted sub-tasks were finished, in any order, ``(N,)`` float64.

    Args:
        finishes: As `first_finishes` gives them, shape ``(N, 7)``.
        wanted: Shape ``(N, 7)`` bool.
    """
    return ((finishes > 0) & wanted).sum(dim=1).double()


def remaining(first: Tensor, last: Tensor, wanted: Tensor) -> Tensor:
    """How far the wanted sub-tasks are from their goals in the end, over how far they were at first, ``(N,)`` float64.

    The mean over the wanted ones: 1 where nothing was moved and more where things were moved away. It tells policies
    apart that finish nothing yet.

    Args:
        first: Positions at first, shape ``(N, 30)``.
        last: Positions in the end, shape ``(N, 30)``.
        wanted: Shape ``(N, 7)`` bool, some of them in each row.
    """
    share = distances(last.double()) / distances(first.double())
    return torch.where(wanted, share, 0.0).sum(dim=1) / wanted.sum(dim=1)
