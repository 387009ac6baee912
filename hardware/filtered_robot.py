"""A robot behind a safety filter: between the policy, who sees a robot like any other, and the robot's own limiter."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from fermo.controllers.arm_filter import ArmFilter
from fermo.controllers.projection import NAMES, PASSED, Projection
from fermo.hardware.robot import Applied, Reading, Robot
from fermo.hardware.wrapped_robot import WrappedRobot

FILTERED = "safety filter"
"""`Applied.reason` where the filter changed a command."""


@dataclass(frozen=True, kw_only=True)
class Intervention:
    """One command that the filter did not let pass.

    Attributes:
        stamp: Of the reading it was judged by [s].
        wanted: What the policy asked for, in the command's unit.
        given: What the robot was given instead.
        outcome: One of `fermo.controllers.projection.NAMES`.
        rows: The rows that turned it aside; none where its box did, or a fallback.
        slack: By how much the worst row is missed all the same, in its barrier's unit; 0 where all are met.
        slope: How steeply the command follows the bounds of those rows; None where they are not independent, which is
            where it may jump.
    """

    stamp: float
    wanted: tuple[float, ...]
    given: tuple[float, ...]
    outcome: str
    rows: tuple[str, ...]
    slack: float
    slope: float | None


@dataclass(kw_only=True)
class FilterReport:
    """What the filter did.

    Attributes:
        counts: Commands by outcome.
        assured: Commands so far from every row that the policy would meet them all from any joint angles within the
            stated error of those measured; None where no certificate says how far that moves its action.
        action_error: How far that is, in the command's unit (l2).
        interventions: Every command that did not pass, in order.
    """

    action_error: float | None = None
    assured: int | None = None
    counts: Counter[str] = field(default_factory=Counter)
    interventions: list[Intervention] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Counts, and how often each row acted; JSON-able."""
        rows = Counter(row for each in self.interventions for row in each.rows)
        return {
            "counts": dict(self.counts),
            "assured": self.assured,
            "action_error": self.action_error,
            "rows": dict(rows.most_common()),
            "largest_slack": max((each.slack for each in self.interventions), default=0.0),
        }

    def to_json(self) -> dict[str, Any]:
        """The summary and every intervention."""
        return {**self.summary(), "interventions": [asdict(each) for each in self.interventions]}


class FilteredRobot(WrappedRobot):
    """`robot` with every command filtered on its way; reads, states and faults are the robot's.

    A command that is not finite is passed on as it is: the robot refuses it, and counts towards its fault.

    Args:
        robot: With ``"joint_position"`` among its observations; its commands are joint goals.
        safety: The filter, at the rate at which commands are written.
        action_error: How far errors of the joint angles can move the policy's action (l2) [rad]; None where nothing is
            certified.

    Attributes:
        report: What the filter did since this object was made.
    """

    def __init__(self, robot: Robot, safety: ArmFilter, *, action_error: float | None = None) -> None:
        super().__init__(robot)
        self.report = FilterReport(action_error=action_error, assured=None if action_error is None else 0)
        self._filter = safety
        self._reading: Reading | None = None

    @property
    def counts(self) -> Counter[str]:
        """The robot's counts; empty where it has none."""
        return Counter(getattr(self._robot, "counts", None))

    def arm(self) -> None:
        """See `Robot`; the filter starts from the measured pose, as the robot does."""
        super().arm()
        self._filter.reset()
        self._reading = None

    def read(self) -> Reading:
        """See `Robot`; the filter judges the next command by it."""
        self._reading = super().read()
        return self._reading

    def write(self, command: np.ndarray) -> Applied:
        """See `Robot`: what is applied is the nearest command that the filter allows."""
        command = np.asarray(command, dtype=float)
        if command.shape != (self.spec.command_size,) or not np.isfinite(command).all():
            return super().write(command)
        reading = self._reading or self.read()
        measured = torch.from_numpy(reading.signals["joint_position"])[None]
        safe, found = self._filter.filter(torch.from_numpy(command)[None], measured)
        given = safe[0].numpy()
        applied = super().write(given)
        self._note(found, reading, command, given)
        if found.outcome[0] == PASSED or applied.reason:
            return applied
        return Applied(command=applied.command, clipped=applied.command != command, reason=FILTERED)

    def _note(self, found: Projection, reading: Reading, wanted: np.ndarray, given: np.ndarray) -> None:
        report, outcome = self.report, NAMES[found.outcome[0]]
        report.counts[outcome] += 1
        if report.assured is not None and report.action_error is not None:
            report.assured += bool(found.clearance[0] / self.spec.rate_hz >= report.action_error)
        if found.outcome[0] == PASSED:
            return
        slope = found.slope()
        report.interventions.append(Intervention(
            stamp=reading.stamp, wanted=tuple(wanted.tolist()), given=tuple(given.tolist()), outcome=outcome,
            rows=tuple(self._filter.labels[row] for row in np.flatnonzero(found.multipliers[0] > 0)),
            slack=found.slack(), slope=slope if np.isfinite(slope) else None,
        ))  # fmt: skip
