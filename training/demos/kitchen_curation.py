"""Which demonstrations of FrankaKitchen are kept, how long they are, and whether their orders are the chain's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.tasks import franka_kitchen_metrics as metrics
from fermo.envs.tasks.franka_kitchen import FrankaKitchen
from fermo.errors import FermoError
from fermo.training.demos.kitchen_chain import LENGTH, draw_orders, order_probabilities, transition_shares
from fermo.training.demos.record import Episodes

SEQUENCE_COLUMN = "subtask_sequence"
"""Column of the dataset that says what is done in the episode: four one-hot vectors of seven, first to last."""


def order_name(order: Tensor) -> str:
    """In plain words: ``"microwave -> kettle -> top burner -> light switch"``."""
    return " -> ".join(metrics.NAMES[number] for number in order.tolist())


@dataclass(frozen=True, kw_only=True)
class KitchenCuration:
    """Keeps episodes that did what was drawn for them and nothing else, and judges the mix of orders.

    Attributes:
        spare: Episodes recorded beyond those asked for, as a share, since some fail; of disturbed ones a fifth.
        after: Steps kept after the last sub-task is done.
        tolerance: How far the share of a sub-task, or of one following another, may be from the chain's.
        judged_from: Fewer demonstrations than this are counted and not judged: the shares of a fair draw scatter by
            more than the tolerance.
    """

    spare: float = 0.3
    after: int = 4
    tolerance: float = 0.07
    judged_from: int = 566

    def attempts(self, count: int) -> int:
        """Episodes to record for `count` successes."""
        return count + round(self.spare * count) + 8

    def keep(self, task: FrankaKitchen, made: Episodes, count: int, seed: int) -> Episodes:
        """The first `count` successes of the first episodes of a batch, cut where they are done.

        Raises:
            FermoError: There are fewer.
        """
        finishes = _finishes(task, made)
        drawn = draw_orders(WorldRandom.first_episodes(seed, len(finishes)))
        found = metrics.order(finishes)
        good = (found == drawn).all(dim=1) & ((finishes > 0).sum(dim=1) == LENGTH)
        chosen = torch.nonzero(good).flatten()[:count]
        if len(chosen) < count:
            raise FermoError(f"only {len(chosen)} of {len(good)} attempts at {task.name} succeeded, {count} are "
                             "needed: the expert does not fit this config")  # fmt: skip
        columns = {SEQUENCE_COLUMN: metrics.one_hot(drawn).flatten(1)}
        lengths = torch.minimum(finishes.amax(dim=1) + 1 + self.after, made.lengths)
        ended = replace(made, lengths=lengths, success=good)
        return ended.with_columns(columns).select(chosen)

    def review(self, task: FrankaKitchen, kept: Episodes) -> dict[str, int]:
        """How many demonstrations do each sub-task, how many show each order, and the median length.

        Raises:
            FermoError: They are not what the chain gives; it says by how much.
        """
        orders = orders_of(kept.columns[SEQUENCE_COLUMN])
        if len(orders) >= self.judged_from:
            self._judge(orders)
        tasks = torch.bincount(orders.flatten(), minlength=len(metrics.NAMES)).tolist()
        shown, counts = orders.unique(dim=0, return_counts=True)
        histogram = {order_name(shown[k]): int(counts[k]) for k in counts.argsort(descending=True, stable=True)}
        return (dict(zip(metrics.NAMES, tasks, strict=True)) | histogram
                | {"steps in the median": int(kept.lengths.median())})  # fmt: skip

    def _judge(self, orders: Tensor) -> None:
        known, probability = order_probabilities()
        for order in orders.unique(dim=0):
            if not (known == order).all(dim=1).any():
                raise FermoError(f"the chain never shows {order_name(order)}; record with the benchmark's own expert")
        found = transition_shares(orders, torch.ones(len(orders), dtype=torch.float64))
        wanted = transition_shares(known, probability)
        self._compare("what is done", found.sum(dim=0), wanted.sum(dim=0), metrics.NAMES)
        names = [f"{name} after {before}" for before in metrics.NAMES for name in metrics.NAMES]
        names += [f"{name} first" for name in metrics.NAMES]
        self._compare("what follows what", found.flatten(), wanted.flatten(), names)

    def _compare(self, what: str, found: Tensor, wanted: Tensor, names: list[str] | tuple[str, ...]) -> None:
        excess, worst = (found - wanted).abs().max(dim=0)
        if excess > self.tolerance:
            raise FermoError(f"{what} is not the chain's: {names[worst]} in {found[worst]:.1%} of the demonstrations, "
                             f"{100 * (excess - self.tolerance):.1f} points outside {wanted[worst]:.1%} +- "
                             f"{100 * self.tolerance:g}; record more of them or take another --seed")  # fmt: skip


def orders_of(sequences: Tensor) -> Tensor:
    """Orders ``(N, 4)`` int64 of rows of `SEQUENCE_COLUMN`, ``(N, 28)``."""
    return sequences.reshape(len(sequences), LENGTH, len(metrics.SUBTASKS)).argmax(dim=2)


def _finishes(task: FrankaKitchen, made: Episodes) -> Tensor:
    """`franka_kitchen_metrics.first_finishes` of what was observed, which leaves out the state in the end."""
    return metrics.first_finishes(made.observations[:, 1:].double(), made.lengths - 1, task.config.threshold)
