"""The real-time loop: read, let the policy choose, write, at absolute deadlines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fermo.errors import FermoError
from fermo.hardware.action_source import ActionSource, action_source
from fermo.hardware.clock import Clock, WallClock
from fermo.hardware.robot import Applied, Reading, Robot, RobotState
from fermo.hardware.spread import spread
from fermo.policies.base import Policy
from fermo.signal import PlantSpec


@dataclass(frozen=True, kw_only=True)
class Tick:
    """One policy period, for whoever watches.

    Attributes:
        index: Counts from 0.
        reading: What was read.
        action: What the policy asked for, ``(command_size,)``.
        applied: What became of it; None in a dry run.
    """

    index: int
    reading: Reading
    action: np.ndarray
    applied: Applied | None


@dataclass(kw_only=True)
class LoopReport:
    """How well the loop kept time, and what it had to refuse.

    Attributes:
        rate_hz: Of the policy [Hz].
        start: Start of each tick on the loop's clock [s].
        period: From one tick of a run to the next [s].
        lateness: Wake-up after the deadline [s].
        work: Wall time from waking to having written [s].
        misses: Periods skipped because the one before was not done.
        stale_reads: Policy readings that brought nothing new.
        clipped: Actions the limits changed.
        rejected: Actions that were not finite.
        servo: The servo loop's own counts, where there is one.
    """

    rate_hz: float
    start: list[float] = field(default_factory=list)
    period: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    misses: int = 0
    stale_reads: int = 0
    clipped: int = 0
    rejected: int = 0
    servo: Counter[str] = field(default_factory=Counter)

    def summary(self) -> dict[str, Any]:
        """Counts, and median, 99th percentile and maximum of every time [ms]; JSON-able."""
        times = {"period_ms": self.period, "lateness_ms": self.lateness, "work_ms": self.work}
        return {
            "rate_hz": self.rate_hz,
            "ticks": len(self.start),
            **{name: spread(1000 * np.array(values)) for name, values in times.items()},
            "misses": self.misses,
            "stale_reads": self.stale_reads,
            "clipped": self.clipped,
            "rejected": self.rejected,
            "servo": dict(self.servo),
        }

    def to_json(self) -> dict[str, Any]:
        """The summary and every tick."""
        ticks = {name: getattr(self, name) for name in ("start", "period", "lateness", "work")}
        return {**self.summary(), **ticks}


def check_plant(policy: PlantSpec, robot: PlantSpec) -> None:
    """Raise `FermoError` naming every signal that keeps a policy from running on a robot."""
    problems = policy.mismatches(robot)
    if problems:
        raise FermoError(f"this policy does not fit this robot: {'; '.join(problems)}")


def run_policy(
    robot: Robot,
    policy: Policy | ActionSource,
    *,
    clock: Clock | None = None,
    steps: int | None = None,
    duration_s: float | None = None,
    on_tick: Callable[[Tick], None] | None = None,
    dry_run: bool = False,
    report: LoopReport | None = None,
) -> LoopReport:
    """Run `policy` on a connected `robot`, which is armed first and left holding.

    Args:
        robot: Connected; a `ServoedRobot` or `ServoProcess` interpolates between the policy's targets.
        policy: What decides; its spec says which signals it reads, and how often.
        clock: Time; the wall clock when None.
        steps: How many policy periods.
        duration_s: How long instead [s].
        on_tick: Called at the end of every period.
        dry_run: Compute commands but leave torque off and write nothing.
        report: Added to, and so kept when the robot faults; a new one when None.

    Raises:
        FermoError: The policy and the robot do not fit; nothing has been armed then.
        RobotError: The robot faulted; it holds.
    """
    check_plant(policy.spec, robot.spec)
    if (steps is None) == (duration_s is None):
        raise ValueError("give either steps or duration_s")
    if steps is None:
        assert duration_s is not None
        steps = round(duration_s * policy.spec.rate_hz)
    clock = clock or WallClock()
    report = LoopReport(rate_hz=policy.spec.rate_hz) if report is None else report
    before = Counter(getattr(robot, "counts", Counter()))
    if not dry_run and robot.state is not RobotState.ARMED:
        robot.arm()
    source = action_source(policy)
    try:
        source.begin(robot)
        _run(robot, source, clock, steps, on_tick, dry_run, report)
    finally:
        if not dry_run:
            robot.stop()
        report.servo.update(getattr(robot, "counts", Counter()))
        report.servo.subtract(before)
    return report


def _run(
    robot: Robot, source: ActionSource, clock: Clock, steps: int, on_tick: Callable[[Tick], None] | None, dry_run: bool,
    report: LoopReport,
) -> None:  # fmt: skip
    period = 1.0 / source.spec.rate_hz
    deadline = clock.now()
    last_sequence = -1
    done = 0
    while done < steps:
        clock.sleep_until(deadline)
        woke, began = clock.now(), time.perf_counter()
        reading = robot.read()
        action = source.next_action(reading)
        applied = None if dry_run else robot.write(action)
        source.carried_out(action if applied is None else applied.command)
        if done:
            report.period.append(woke - report.start[-1])
        report.start.append(woke)
        report.lateness.append(woke - deadline)
        report.work.append(time.perf_counter() - began)
        report.stale_reads += not reading.fresh or reading.sequence == last_sequence
        last_sequence = reading.sequence
        if applied is not None:
            report.rejected += applied.reason == "not finite"
            report.clipped += applied.reason == "limits"
        if on_tick:
            on_tick(Tick(index=done, reading=reading, action=action, applied=applied))
        done += 1
        deadline += period
        missed = max(0, int((clock.now() - deadline) / period))  # no catch-up burst
        report.misses += missed
        done += missed
        deadline += missed * period
    clock.sleep_until(deadline)
