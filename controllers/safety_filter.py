r"""The safety filter: the command nearest to the wanted one that keeps every barrier.

.. math:: u = \arg\min_v \tfrac12 \|v - u_\pi\|^2 \quad \text{subject to} \quad A(x)\, v \ge b(x), \; low \le v \le high

(Ames, Xu, Grizzle & Tabuada, "Control barrier function based quadratic programs for safety critical systems", IEEE TAC
62(8), 2017), with rows from `fermo.controllers.barriers`. A command that meets all rows passes unchanged, and no
program is solved for it.

**Its slope is not the policy's.** At a fixed measurement the filter projects onto a convex set, which enlarges no
difference of commands. But the set moves with the measurement: where rows press, u follows their bounds b with the
slope :math:`\|A_{active}^+\| = 1 / \sigma_{min}(A_{active})`, which has no bound and may jump where these rows lose
independence. What a certificate says of the policy ends where the filter acts; `Projection` says where that is, and
how steep.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from fermo.controllers.barriers import Array, Barrier, State
from fermo.controllers.projection import NAMES, Brake, Projection, Projector
from fermo.controllers.quadratic_program import Solver, solve
from fermo.errors import FermoError


class SafetyFilter:
    """Projects commands onto what the barriers allow; a controller over N worlds, in float64 on the CPU.

    Where no command meets all rows, those with a finite `slack_weight` are missed by as little as the weights say.
    Where a command or a measurement is not finite, where the solver fails or its point does not pass `is_optimal`, and
    where a curved row is still missed after `rounds` linearisations, the last safe command is repeated `repeats` times;
    then the brake is applied, until a solution can be trusted again.

    Args:
        barriers: What to keep.
        low: Smallest command, shape ``(m,)``; never given up.
        high: Largest command, shape ``(m,)``.
        brake: The command that stops.
        repeats: How often in a row a safe command may be given again where there is no new one.
        rounds: Most linearisations of curved rows.
        tolerance: A row is met when missed by no more, in its barrier's unit.
        solver: Of the quadratic programs; its points are checked whoever it is.

    Attributes:
        labels: Of the R rows, in their order.
        counts: Commands by outcome, and those ``"repeated"`` and ``"braked"`` in place of one.

    Raises:
        FermoError: There is no barrier, or a number makes no sense.
    """

    def __init__(
        self, barriers: Sequence[Barrier], low: Array, high: Array, brake: Brake, *, repeats: int = 1,
        rounds: int = 10, tolerance: float = 1e-6, solver: Solver = solve,
    ) -> None:  # fmt: skip
        if not barriers:
            raise FermoError("a filter without barriers keeps nothing: give it at least one")
        if repeats < 0 or rounds < 1 or not tolerance > 0:
            raise FermoError(f"need repeats >= 0, rounds >= 1, tolerance > 0, got {repeats}, {rounds} and {tolerance}")
        if not (low <= high).all():
            raise FermoError(f"low must not exceed high, got {low.tolist()} and {high.tolist()}")
        self.labels = tuple(label for barrier in barriers for label in barrier.labels)
        self.counts: Counter[str] = Counter()
        self._repeats = repeats
        self._projector = Projector(barriers, low, high, brake, rounds=rounds, tolerance=tolerance, solver=solver)
        self._last: Array | None = None  # safe commands, NaN where there is none yet
        self._failures: Array | None = None  # in a row

    def command(self, target: Tensor, state: Mapping[str, Tensor]) -> Tensor:
        """See `filter`."""
        return self.filter(target, state)[0]

    def filter(self, target: Tensor, state: Mapping[str, Tensor]) -> tuple[Tensor, Projection]:
        """The nearest safe commands ``(N, m)``, and how they were found.

        Args:
            target: What is wanted, shape ``(N, m)``.
            state: What the barriers read, each ``(N, ...)``.

        Raises:
            FermoError: The target is not on the CPU, or its shape changed without a `reset`.
        """
        last, failures = self._memory(target)
        measured = {name: _array(value) for name, value in state.items()}
        found = self._projector.project(_array(target), measured)
        safe, failed = found.command.copy(), found.failed
        failures += 1
        failures *= failed
        if failed.any():
            repeat = failed & (failures <= self._repeats) & ~np.isnan(last).any(axis=1)
            brake = failed & ~repeat
            safe[repeat], safe[brake] = last[repeat], self._projector.brake(measured)[brake]
            self.counts.update(repeated=int(repeat.sum()), braked=int(brake.sum()))
        self._count(found.outcome)
        self._last = safe.copy()  # what is returned is the caller's
        return torch.from_numpy(safe).to(target.dtype), found

    def reset(self, mask: Tensor | None = None) -> None:
        """Forget the last safe commands of the worlds in `mask`, shape ``(N,)`` bool; of all worlds when None."""
        if mask is None:
            self._last = self._failures = None
        elif self._last is not None and self._failures is not None:
            self._last[mask.numpy()] = math.nan
            self._failures[mask.numpy()] = 0

    def _count(self, outcomes: Array) -> None:
        for outcome in outcomes.tolist():
            self.counts[NAMES[outcome]] += 1

    def _memory(self, target: Tensor) -> tuple[Array, Array]:
        """Last safe commands and failures in a row, from the first call on."""
        if target.device.type != "cpu":
            raise FermoError(f"the safety filter solves on the CPU, the command is on {target.device}: move it first")
        if self._last is None or self._failures is None:
            self._last = np.full(target.shape, math.nan)
            self._failures = np.zeros(len(target), dtype=np.int64)
        elif self._last.shape != target.shape:
            shape, held = tuple(target.shape), self._last.shape
            raise FermoError(f"the command has shape {shape}, the filter holds {held}: call reset() first")
        return self._last, self._failures


def _array(value: Tensor) -> Array:
    """In float64; shared with the tensor where it has that precision."""
    return value.detach().numpy().astype(np.float64, copy=False)


def stand_still(state: State) -> Array:
    """The `Brake` of commands that are velocities: zero, ``(N, n)``."""
    return np.zeros_like(state["joint_position"])


def decelerate(period: float) -> Brake:
    """The `Brake` of commands that are accelerations: at rest after a `period` [s], as far as the box allows."""
    return lambda state: -state["joint_velocity"] / period
