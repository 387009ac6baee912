"""The commands nearest to the wanted ones that meet every row, over N worlds: one small quadratic program at a time.

Rows that are not affine in the command are linearised about the present one and the program is solved again, until
they are met where they are exact: sequential quadratic programming. Every third round goes half of the way, which ends
a swing along a curved wall, from one side to the other. Only worlds that miss a row cost a program.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fermo.controllers.barriers import Array, Barrier, State
from fermo.controllers.quadratic_program import UNBOUNDED, QuadraticProgram, Solver, is_optimal, soften

Brake = Callable[[State], Array]
"""The commands that stop, ``(N, m)``."""

_RANK = 1e-9  # rows whose smallest singular value is a smaller share of the largest are not independent
_HALF_STEP = 3  # every so many rounds
_STILL = 1e-9  # a command that moves by less than this from one program to the next will not move again

NAMES = ("passed", "changed", "softened", "not finite", "not solved", "not converged")
"""What can become of a command. Softened: no command meets all rows, and this one misses them by as little as their
weights say. The last three are failures: no command was found that can be trusted."""

PASSED, CHANGED, SOFTENED, NOT_FINITE, NOT_SOLVED, NOT_CONVERGED = range(len(NAMES))


@dataclass(kw_only=True)
class Projection:
    """N commands and how they were found.

    Attributes:
        command: The nearest commands, shape ``(N, m)``; to be used nowhere where `failed`.
        outcome: Places in `NAMES`, shape ``(N,)``.
        rows: A at `command`, shape ``(N, R, m)``.
        spare: ``A u - b`` there, negative where a row is missed, shape ``(N, R)``.
        multipliers: Of the rows, shape ``(N, R)``; positive where a row turned the command aside.
        wanted_spare: ``A u - b`` at the wanted command inside the box, shape ``(N, R)``.
        lipschitz: How much each row changes at most with a unit of the command (l2), shape ``(R,)``.
        box: Smallest and largest command, each ``(m,)``.
    """

    command: Array
    outcome: Array
    rows: Array
    spare: Array
    multipliers: Array
    wanted_spare: Array
    lipschitz: Array
    box: tuple[Array, Array]

    @property
    def failed(self) -> Array:
        """Where no command can be trusted, shape ``(N,)`` bool."""
        return self.outcome >= NOT_FINITE

    @property
    def clearance(self) -> Array:
        """By how much the wanted command could change (l2) before it misses a row, shape ``(N,)``.

        Negative where it misses one, NaN where something is not finite.
        """
        return (self.wanted_spare / self.lipschitz).min(axis=1)

    def slack(self, world: int = 0) -> float:
        """By how much the worst row is missed, in its barrier's unit."""
        return max(0.0, -float(self.spare[world].min()))

    def slope(self, world: int = 0) -> float:
        r"""How steeply the command follows the bounds of the rows that press, :math:`1 / \sigma_{min}`.

        Infinite where those rows are not independent, which is where the filter may jump; 0 where none presses.
        """
        command, (low, high) = self.command[world], self.box
        active = self.rows[world][self.multipliers[world] > 0][:, (command > low) & (command < high)]
        if len(active) == 0:
            return 0.0
        sigma = np.linalg.svd(active, compute_uv=False)
        independent = len(active) <= active.shape[1] and sigma[-1] > _RANK * sigma[0]
        return float(1.0 / sigma[-1]) if independent else math.inf


class Projector:
    """What stays the same from call to call; `fermo.controllers.safety_filter.SafetyFilter` explains the arguments."""

    def __init__(
        self, barriers: Sequence[Barrier], low: Array, high: Array, brake: Brake, *, rounds: int, tolerance: float,
        solver: Solver,
    ) -> None:  # fmt: skip
        self._barriers, self._low, self._high, self._brake = tuple(barriers), low, high, brake
        self._rounds, self._tolerance, self._solver = rounds, tolerance, solver
        self._lipschitz = np.concatenate([barrier.lipschitz for barrier in barriers])
        self._slack_weight = np.concatenate([np.full(len(each.labels), each.slack_weight) for each in barriers])
        self._curved = any(barrier.curved for barrier in barriers)
        self._weight = np.ones(len(high))
        self._upper = np.concatenate([high, np.full(len(self._slack_weight), UNBOUNDED)])

    def project(self, wanted: Array, state: State) -> Projection:
        """The commands nearest to `wanted`, shape ``(N, m)``.

        Where a linearisation leads to rows that exclude each other it begins again at the command that brakes.
        """
        found, bounds = self._start(wanted, state)
        missing = self._misses(found) & ~found.failed
        if not missing.any():
            return found
        at_work = missing.copy()
        for turn in range(self._rounds):
            step = 0.5 if turn % _HALF_STEP == _HALF_STEP - 1 else 1.0
            for world in np.flatnonzero(at_work).tolist():
                at_work[world] = self._solve(found, world, wanted[world], bounds[world], state, step)
            if self._curved:
                found.rows, bounds = self._look(found.command, state)
            found.spare = _times(found.rows, found.command) - bounds
            missing = self._misses(found)
            at_work &= missing
            if not at_work.any():
                break
        if self._curved or missing.any():
            self._judge(found, missing, wanted, state)
        return found

    def brake(self, state: State) -> Array:
        """The commands that stop, inside the box, shape ``(N, m)``; finite even where the state is not."""
        return np.clip(np.nan_to_num(self._brake(state)), self._low, self._high)

    def _start(self, wanted: Array, state: State) -> tuple[Projection, Array]:
        """The wanted commands themselves, inside the box, and b."""
        command = np.minimum(np.maximum(wanted, self._low), self._high)
        rows, bounds = self._look(command, state)
        spare = _times(rows, command) - bounds
        outcome = np.where((command == wanted).all(axis=1), PASSED, CHANGED)
        outcome[~np.isfinite(wanted.sum(axis=1) + spare.sum(axis=1))] = NOT_FINITE
        found = Projection(
            command=command, outcome=outcome, rows=rows, spare=spare, multipliers=np.zeros(spare.shape),
            wanted_spare=spare, lipschitz=self._lipschitz, box=(self._low, self._high),
        )  # fmt: skip
        return found, bounds

    def _look(self, command: Array, state: State) -> tuple[Array, Array]:
        """A and b at `command`."""
        pairs = [barrier.rows(state, command) for barrier in self._barriers]
        if len(pairs) == 1:
            return pairs[0]
        return tuple(np.concatenate(part, axis=1) for part in zip(*pairs, strict=True))

    def _misses(self, found: Projection) -> Array:
        return ~(found.spare.min(axis=1) >= -self._tolerance)  # what is not a number is missed, too

    def _solve(
        self, found: Projection, world: int, wanted: Array, bounds: Array, state: State, step: float
    ) -> bool:
        """One world's program, softened where it has no point; whether another round may still change it."""
        problem = QuadraticProgram(
            weight=self._weight, target=wanted, rows=found.rows[world],
            low=np.concatenate([self._low, bounds]), high=self._upper,
        )  # fmt: skip
        solution = self._solver(problem)
        softened = solution.status == "infeasible"
        if softened and self._curved and (found.command[world] != (brake := self.brake(state)[world])).any():
            found.command[world], found.outcome[world] = brake, CHANGED
            return True
        if softened:
            problem = soften(problem, self._slack_weight)
            solution = self._solver(problem)
        if not is_optimal(problem, solution):
            found.outcome[world] = NOT_SOLVED
            return False
        move = step * (solution.x[: len(wanted)] - found.command[world])
        found.command[world] += move
        found.multipliers[world] = -solution.multipliers[-len(bounds) :]
        found.outcome[world] = SOFTENED if softened else CHANGED
        return not softened or np.abs(move).max() > _STILL

    def _judge(self, found: Projection, missing: Array, wanted: Array, state: State) -> None:
        """Which of the commands that miss a row stand: softened ones, unless braking would be better."""
        found.outcome[missing & (found.outcome == CHANGED)] = NOT_CONVERGED
        found.outcome[~missing & (found.outcome == SOFTENED)] = CHANGED  # needed in between only
        if self._curved and (softened := found.outcome == SOFTENED).any():
            brake = self.brake(state)
            rows, bounds = self._look(brake, state)
            braked = self._cost(brake, wanted, _times(rows, brake) - bounds)
            found.outcome[softened & (self._cost(found.command, wanted, found.spare) > braked)] = NOT_CONVERGED

    def _cost(self, command: Array, wanted: Array, spare: Array) -> Array:
        """What a softened program minimises, shape ``(N,)``, with the slack that the exact rows need."""
        slack = np.where(spare < -self._tolerance, -spare, 0.0)
        price = np.where(slack > 0, self._slack_weight, 0.0)
        return 0.5 * ((command - wanted) ** 2).sum(axis=1) + 0.5 * (price * slack**2).sum(axis=1)


def _times(rows: Array, command: Array) -> Array:
    """``A u``, shape ``(N, R)``."""
    return (rows @ command[:, :, None])[..., 0]
