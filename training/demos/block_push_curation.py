"""Which demonstrations of BlockPush are kept, and what the kept ones must look like for the benchmark to be itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.tasks import block_push_metrics as metrics
from fermo.envs.tasks.block_push import GOAL_SIGNALS, BlockPush
from fermo.errors import FermoError
from fermo.training.demos.record import Episodes

TARGET_COLUMN = "target_position"
"""Column of the dataset that says where the targets were, ``(4,)`` [m] over (target, xy); policies do not see it."""

MODE_COLUMN = "mode"
"""Column of the dataset that says in which of the four ways the episode is solved, an integer."""


def mode_name(mode: int) -> str:
    """In plain words, counted from 1 as the signals are: ``"block 1 to target 2 first"``."""
    return f"block {mode // 2 + 1} to target {mode % 2 + 1} first"


@dataclass(frozen=True, kw_only=True)
class BlockPushCuration:
    """Keeps successes, and judges the mix of modes and the lengths.

    Attributes:
        spare: Episodes recorded beyond those asked for, as a share, since some fail.
        share_tolerance: How far the share of a mode may be from a quarter.
        median_length: Between which the median length must lie [steps].
        judged_from: Fewer demonstrations than this are counted and not judged: the shares of a fair draw scatter by
            more than the tolerance.
    """

    spare: float = 0.2
    share_tolerance: float = 0.03
    median_length: tuple[float, float] = (100.0, 135.0)
    judged_from: int = 1000

    def attempts(self, count: int) -> int:
        """Episodes to record for `count` successes."""
        return count + round(self.spare * count) + 8

    def keep(self, task: BlockPush, made: Episodes, count: int, seed: int) -> Episodes:
        """The first `count` successes of the first episodes of a batch, with `TARGET_COLUMN` and `MODE_COLUMN`.

        Raises:
            FermoError: There are fewer.
        """
        chosen = torch.nonzero(made.success).flatten()[:count]
        if len(chosen) < count:
            raise FermoError(f"only {len(chosen)} of {len(made.success)} attempts at {task.name} succeeded, {count} "
                             "are needed: the expert does not fit this config")  # fmt: skip
        targets = task.draw_targets(WorldRandom.first_episodes(seed, len(made.success)))
        modes = metrics.mode(_first_entries(task, made, targets))[:, None]
        return made.with_columns({TARGET_COLUMN: targets.flatten(1), MODE_COLUMN: modes}).select(chosen)

    def review(self, task: BlockPush, kept: Episodes) -> dict[str, int]:
        """How many demonstrations show each mode, and the median length.

        Raises:
            FermoError: They are not what the benchmark is; it says by how much.
        """
        modes = kept.columns[MODE_COLUMN].flatten()
        counts = torch.bincount(modes, minlength=metrics.MODES).tolist()
        length = float(np.median(kept.lengths.numpy()))
        if len(modes) >= self.judged_from:
            self._judge(counts, length)
        return {mode_name(mode): count for mode, count in enumerate(counts)} | {"steps in the median": round(length)}

    def _judge(self, counts: list[int], length: float) -> None:
        for mode, count in enumerate(counts):
            share = count / sum(counts)
            excess = abs(share - 1 / metrics.MODES) - self.share_tolerance
            if excess > 1e-9:  # more than rounding
                raise FermoError(
                    f"{mode_name(mode)}: {share:.1%} of {sum(counts)} demonstrations, {100 * excess:.1f} points "
                    f"outside 25 +- {100 * self.share_tolerance:g} %; record more of them or take another --seed"
                )
        low, high = self.median_length
        excess = max(low - length, length - high)
        if excess > 0:
            raise FermoError(f"the median demonstration takes {length:g} steps, {excess:g} outside {low:g} to "
                             f"{high:g}; the expert's speeds or the scene have changed")  # fmt: skip


def _first_entries(task: BlockPush, made: Episodes, targets: Tensor) -> Tensor:
    """`block_push_metrics.first_entries` of what was observed, which leaves out the state in which an episode ended."""
    slices = task.spec.observation_slices()
    blocks = torch.stack([made.observations[..., slices[name]] for name in GOAL_SIGNALS], dim=-2)
    return metrics.first_entries(blocks.to(targets.dtype), targets, made.lengths, task.config.tolerance)
