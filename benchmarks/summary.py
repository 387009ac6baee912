"""A comparison as lines of text: rates, ratios to fermo and to the ceiling, memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fermo.benchmarks.registry import CEILING, OURS
from fermo.benchmarks.results import Comparison, Results, Row, median, paired_ratio
from fermo.training.statistics import Interval

_HEADER = ("", "env-steps/s", "95 %", "per CPU-second", "fermo is x as fast", "95 %", "worlds", "KiB a world")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is shown of a row; None where there is nothing to say.

    Attributes:
        row: The row itself.
        rate: Environment steps per second of wall time.
        cpu_rate: The same per second of processor time.
        lead: How many times as many steps fermo makes in the same time, round by round.
        world_bytes: Memory a world takes [B].
    """

    row: Row
    rate: Interval | None
    cpu_rate: Interval | None
    lead: Interval | None
    world_bytes: float | None


def lines(comparison: Comparison) -> tuple[Line, ...]:
    """Every row with its statistics, in order."""
    ours = next((row for row in comparison.rows if row.contender in OURS.values() and row.rounds), None)
    return tuple(_line(row, ours) for row in comparison.rows)


def share_of_ceiling(comparison: Comparison) -> Interval | None:
    """Fermo's rate over the bare engine's, None if either did not run."""
    rates = {row.contender: row.wall_rates for row in comparison.rows if row.rounds}
    ours, ceiling = OURS[comparison.backend], CEILING[comparison.backend]
    return paired_ratio(rates[ours], rates[ceiling]) if ours in rates and ceiling in rates else None


def text_table(comparison: Comparison) -> str:
    """For a terminal."""
    table = [_HEADER, *(_cells(line) for line in lines(comparison) if not line.row.absent)]
    widths = [max(len(cells[column]) for cells in table) for column in range(len(_HEADER))]
    aligned = [
        "  ".join([cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])]).rstrip() for cells in table
    ]
    absent = [f"{row.label}: {row.absent}" for row in comparison.rows if row.absent]
    title = f"{comparison.task}, N = {comparison.num_envs}, {comparison.threads} threads, {comparison.physics}"
    return "\n".join([title, *aligned, *absent])


def machine(results: Results) -> str:
    """The machine and how busy it was, in a sentence."""
    loads = [load for each in results.comparisons for load in (each.load_before, each.load_after)]
    gpus = f", {', '.join(results.gpus)}" if results.gpus else ""
    return (
        f"{results.cpu}, {results.cores} cores{gpus}; load average {min(loads):.1f} to {max(loads):.1f}; "
        f"{results.started}"
    )


def _line(row: Row, ours: Row | None) -> Line:
    if not row.rounds:
        return Line(row=row, rate=None, cpu_rate=None, lead=None, world_bytes=None)
    lead = None if ours is None or ours is row else paired_ratio(ours.wall_rates, row.wall_rates)
    cpu_rate = median(row.cpu_rates) if np.isfinite(row.cpu_rates).all() else None
    world_bytes = row.grown_bytes / row.num_envs if row.grown_bytes > 0 else None
    return Line(row=row, rate=median(row.wall_rates), cpu_rate=cpu_rate, lead=lead, world_bytes=world_bytes)


def _cells(line: Line) -> tuple[str, ...]:
    rate, cpu_rate, lead = line.rate, line.cpu_rate, line.lead
    assert rate is not None
    return (
        line.row.label,
        f"{rate.value:,.0f}",
        f"{rate.low:,.0f} to {rate.high:,.0f}",
        f"{cpu_rate.value:,.0f}" if cpu_rate else "",
        f"{lead.value:.2f}" if lead else "",
        f"{lead.low:.2f} to {lead.high:.2f}" if lead else "",
        str(line.row.num_envs),
        f"{line.world_bytes / 1024:,.1f}" if line.world_bytes else "",
    )
