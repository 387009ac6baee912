"""The commands nearest to the wanted ones that meet every row, over N worlds: one small quadratic program at a time.

Rows that are not affine in the command are linearised about the present one and the program is solved again, until
they are met where they are exact: sequential quadratic programming. Only worlds that miss a row cost a program.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fermo.controllers.barriers import Barrier, State
from fermo.controllers.quadratic_program import UNBOUNDED, QuadraticProgram, Solver, is_optimal, soften

PASSED, CHANGED, SOFTENED = "passed", "changed", "softened"
NOT_FINITE, NOT_SOLVED, NOT_CONVERGED = "not finite", "not solved", "not converged"

_RANK = 1e-9  # rows whose smallest singular value is a smaller share of the largest are not independent
_STILL = 1e-9  # a command that moves by less than this from one program to the next will not move again


@dataclass(kw_only=True)
class Projection:
    """N commands and how they were found.

    Attributes:
        command: The nearest commands, shape ``(N, m)``; to be used nowhere where `failed`.
        outcome: `PASSED`, `CHANGED`, `SOFTENED`, or why it failed: `NOT_FINITE`, `NOT_SOLVED`, `NOT_CONVERGED`; shape
            ``(N,)``, of str.
        failed: Where no command can be trusted, shape ``(N,)`` bool.
        rows: A at `command`, shape ``(N, R, m)``.
        spare: ``A u - b`` there, negative where a row is missed, shape ``(N, R)``.
        multipliers: Of the rows, shape ``(N, R)``; positive where a row turned the command aside.
        free: Which elements of `command` lie inside the box, shape ``(N, m)`` bool.
        clearance: By how much the wanted command could change (l2) before it misses a row, shape ``(N,)``: negative
            where it misses one, NaN where something is not finite.
    """

    command: np.ndarray
    outcome: np.ndarray
    failed: np.ndarray
    rows: np.ndarray
    spare: np.ndarray
    multipliers: np.ndarray
    free: np.ndarray
    clearance: np.ndarray

    def slack(self, world: int = 0) -> float:
        """By how much the worst row is missed, in its barrier's unit."""
        return max(0.0, -float(self.spare[world].min()))

    def slope(self, world: int = 0) -> float:
        r"""How steeply the command follows the bounds of the rows that press, :math:`1 / \sigma_{min}`.

        Infinite where those rows are not independent, which is where the filter may jump; 0 where none presses.
        """
        active = self.rows[world][self.multipliers[world] > 0][:, self.free[world]]
        if len(active) == 0:
            return 0.0
        sigma = np.linalg.svd(active, compute_uv=False)
        independent = len(active) <= active.shape[1] and sigma[-1] > _RANK * sigma[0]
        return float(1.0 / sigma[-1]) if independent else math.inf


class Projector:
    """What stays the same from call to call; `fermo.controllers.safety_filter.SafetyFilter` explains the arguments."""

    def __init__(
        self, barriers: Sequence[Barrier], low: np.ndarray, high: np.ndarray, *, rounds: int, tolerance: float,
        solver: Solver,
    ) -> None:  # fmt: skip
        self._barriers, self._low, self._high = tuple(barriers), low, high
        self._rounds, self._tolerance, self._solver = rounds, tolerance, solver
        self._lipschitz = torch.cat([barrier.lipschitz for barrier in barriers]).numpy()
        self._slack_weight = np.concatenate([np.full(len(each.labels), each.slack_weight) for each in barriers])
        self._curved = any(barrier.curved for barrier in barriers)
        self._upper = np.concatenate([high, np.full(len(self._slack_weight), UNBOUNDED)])

    def project(self, wanted: np.ndarray, brake: np.ndarray, state: State) -> Projection:
        """The commands nearest to `wanted`.

        Args:
            wanted: Shape ``(N, m)``.
            brake: The commands that stop, inside the box: where the linearisation begins again when it leads to rows
                that exclude each other.
            state: See `Barrier.rows`.
        """
        found = self._start(wanted, state)
        open_ = ~found.failed
        for _ in range(self._rounds):
            open_ &= self._misses(found)
            if not open_.any():
                break
            bounds = _times(found.rows, found.command) - found.spare
            for world in np.flatnonzero(open_):
                open_[world] = self._solve(found, world, wanted[world], brake[world], bounds[world])
            if self._curved:
                found.rows, found.spare = self._look(found.command, state)
            else:
                found.spare = _times(found.rows, found.command) - bounds
        missed = self._misses(found)
        self._fail(found, missed & (found.outcome == CHANGED) & ~found.failed, NOT_CONVERGED)
        found.outcome[~missed & (found.outcome == SOFTENED)] = CHANGED  # not needed after all
        if self._curved and (softened := found.outcome == SOFTENED).any():  # and never worse than braking
            braked = self._cost(brake, wanted, self._look(brake, state)[1])
            self._fail(found, softened & (self._cost(found.command, wanted, found.spare) > braked), NOT_CONVERGED)
        found.free = (found.command > self._low) & (found.command < self._high)
        return found

    def _start(self, wanted: np.ndarray, state: State) -> Projection:
        """The wanted commands themselves, inside the box."""
        command = np.clip(wanted, self._low, self._high)
        rows, spare = self._look(command, state)
        found = Projection(
            command=command,
            outcome=np.where((command == wanted).all(axis=1), PASSED, CHANGED).astype(object),
            failed=np.zeros(len(wanted), dtype=bool),
            rows=rows,
            spare=spare,
            multipliers=np.zeros(spare.shape),
            free=np.ones(wanted.shape, dtype=bool),
            clearance=(spare / self._lipschitz).min(axis=1),
        )
        self._fail(found, ~(np.isfinite(wanted).all(axis=1) & np.isfinite(spare).all(axis=1)), NOT_FINITE)
        return found

    def _look(self, command: np.ndarray, state: State) -> tuple[np.ndarray, np.ndarray]:
        """A and ``A u - b`` at `command`."""
        pairs = [barrier.rows(state, torch.from_numpy(command)) for barrier in self._barriers]
        rows = np.concatenate([rows.numpy() for rows, _ in pairs], axis=1)
        bounds = np.concatenate([bounds.numpy() for _, bounds in pairs], axis=1)
        return rows, _times(rows, command) - bounds

    def _cost(self, command: np.ndarray, wanted: np.ndarray, spare: np.ndarray) -> np.ndarray:
        """What a softened program minimises, shape ``(N,)``, with the slack that the exact rows need."""
        slack = np.where(spare < -self._tolerance, -spare, 0.0)
        price = np.where(slack > 0, self._slack_weight, 0.0)
        return 0.5 * ((command - wanted) ** 2).sum(axis=1) + 0.5 * (price * slack**2).sum(axis=1)

    def _misses(self, found: Projection) -> np.ndarray:
        return (found.spare < -self._tolerance).any(axis=1)

    def _solve(
        self, found: Projection, world: int, wanted: np.ndarray, brake: np.ndarray, bounds: np.ndarray
    ) -> bool:
        """One world's program, softened where it has no point; whether another round may still change it."""
        problem = QuadraticProgram(
            weight=np.ones(len(wanted)), target=wanted, rows=found.rows[world],
            low=np.concatenate([self._low, bounds]), high=self._upper,
        )  # fmt: skip
        solution = self._solver(problem)
        softened = solution.status == "infeasible"
        if softened and self._curved and (found.command[world] != brake).any():
            found.command[world], found.outcome[world] = brake, CHANGED
            return True
        if softened:
            problem = soften(problem, self._slack_weight)
            solution = self._solver(problem)
        if not is_optimal(problem, solution):
            found.outcome[world], found.failed[world] = NOT_SOLVED, True
            return False
        command = solution.x[: len(wanted)]
        moved = np.abs(command - found.command[world]).max() > _STILL
        found.command[world] = command
        found.multipliers[world] = -solution.multipliers[-len(bounds) :]
        found.outcome[world] = SOFTENED if softened else CHANGED
        return moved or not softened

    @staticmethod
    def _fail(found: Projection, where: np.ndarray, why: str) -> None:
        found.outcome[where], found.failed[where] = why, True


def _times(rows: np.ndarray, command: np.ndarray) -> np.ndarray:
    """``A u``, shape ``(N, R)``."""
    return (rows @ command[:, :, None])[..., 0]
