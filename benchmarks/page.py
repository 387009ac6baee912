"""The page of measured speed: every file of a results folder as tables and drawings, with the command that made it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from fermo.benchmarks import charts, results, summary
from fermo.benchmarks.constraint_cost import ConstraintCost, ratios
from fermo.benchmarks.filter_results import FilterResults
from fermo.benchmarks.policy_latency import PolicyLatency
from fermo.benchmarks.policy_latency import ratios as latency_ratios
from fermo.benchmarks.profile import Profile
from fermo.benchmarks.results import Comparison, Results, ShortTraining
from fermo.training.files import read_json
from fermo.training.records import from_json

_SWEEP = 3  # from so many numbers of worlds of one task on, growth is drawn
_HEADER = ("", "env-steps/s (95 %)", "per CPU-second", "fermo is × as fast (95 %)", "worlds", "KiB a world", "")


def markdown(folder: Path | str = "benchmarks/results") -> str:
    """All that was measured, file by file; a sentence where there is nothing."""
    parts = [_section(path) for path in sorted(Path(folder).rglob("*.json"))]
    return charts.STYLE + "\n\n" + "\n\n".join(parts) if parts else "Nothing has been measured yet."


def _section(path: Path) -> str:
    data = read_json(path)
    if "stages" in data:
        return _profile(from_json(Profile, data, str(path)))
    if "constraint_rows" in data:
        return _constraint(from_json(ConstraintCost, data, str(path)))
    if "latency_rows" in data:
        return _latency(from_json(PolicyLatency, data, str(path)))
    if "filters" in data:
        return _filters(from_json(FilterResults, data, str(path)))
    if "mean_rewards" in data:
        return _training(from_json(ShortTraining, data, str(path)))
    return _speed(results.load(path))


def _speed(measured: Results) -> str:
    """Comparisons, then growth for the tasks that were run at many numbers of worlds."""
    by_task = [list(group) for _, group in itertools.groupby(measured.comparisons, key=lambda each: each.task)]
    parts = [
        f"## {', '.join(group[0].task.removeprefix('fermo/') for group in by_task)}",
        f"`{measured.command}`\n\n{summary.machine(measured)}. {', '.join(measured.versions)}."
        f"{f' Commit {measured.commit[:10]}.' if measured.commit else ''} Turns of {measured.round_s:g} s.",
    ]
    for group in by_task:
        parts += [_growth(group)] if len(group) >= _SWEEP else [_comparison(each) for each in group]
    return "\n\n".join(parts)


def _comparison(comparison: Comparison) -> str:
    name = comparison.task.removeprefix("fermo/")
    share = summary.share_of_ceiling(comparison)
    said = (
        f"fermo reaches {share.value:.0%} ({share.low:.0%} to {share.high:.0%}) of the bare engine. " if share else ""
    )
    rows = [_cells(line) for line in summary.lines(comparison)]
    return "\n\n".join(
        [
            f"### {name}, N = {comparison.num_envs}, {comparison.threads} threads",
            f"{said}Physics: {comparison.physics}.",
            charts.rate_bars(comparison),
            _table(_HEADER, rows),
        ]
    )


def _cells(line: summary.Line) -> tuple[str, ...]:
    row, rate, cpu_rate, lead = line.row, line.rate, line.cpu_rate, line.lead
    if rate is None:
        return (row.label, "", "", "", "", "", row.absent)
    return (
        row.label,
        f"{rate.value:,.0f} ({rate.low:,.0f} to {rate.high:,.0f})",
        f"{cpu_rate.value:,.0f}" if cpu_rate else "",
        f"{lead.value:.2f} ({lead.low:.2f} to {lead.high:.2f})" if lead else "",
        str(row.num_envs),
        f"{line.world_bytes / 1024:,.1f}" if line.world_bytes else "",
        row.note,
    )


def _growth(group: Sequence[Comparison]) -> str:
    """Time of an environment step and memory of a world as their number grows."""
    header = ("N", *(row.label for row in group[0].rows))
    time_rows, memory_rows = [], []
    for comparison in group:
        found = summary.lines(comparison)
        time_rows.append(
            (str(comparison.num_envs), *(f"{1e6 / line.rate.value:,.2f}" if line.rate else "" for line in found))
        )
        memory = (f"{line.world_bytes / 1024:,.1f}" if line.world_bytes else "" for line in found)
        memory_rows.append((str(comparison.num_envs), *memory))
    name = group[0].task.removeprefix("fermo/")
    return "\n\n".join(
        [
            f"### {name} as N grows, {group[0].threads} threads",
            f"Physics: {group[0].physics}.",
            charts.growth(group),
            "Microseconds of wall time for one step of one world:",
            _table(header, time_rows),
            "KiB of memory for one world:",
            _table(header, memory_rows),
        ]
    )


def _profile(found: Profile) -> str:
    rows = [(each.stage, f"{1e3 * each.seconds:.4f}", f"{each.share:.1%}") for each in found.stages]
    split = [(each.stage, f"{1e3 * each.seconds:.4f}", f"{each.share:.1%}") for each in found.physics]
    name, place = found.task.removeprefix("fermo/"), f" --backend {found.backend}" if found.backend != "cpu" else ""
    return "\n\n".join(
        [
            f"## Where a step of {name} goes",
            f"`fermo profile {name} --num-envs {found.num_envs}{place} --steps {found.steps}`: "
            f"{1e3 * found.step_s:.3f} ms a step on {found.device}, {1e3 * found.bare_step_s:.3f} ms without clocks.",
            charts.shares(found),
            *_launches(found),
            _table(("stage", "ms a step", "share"), rows),
            "Physics by MuJoCo's own timers, one world on one thread:",
            _table(("phase", "ms a step", "share"), split),
        ]
    )


def _filters(found: FilterResults) -> str:
    header = ("", "median µs", "p99 µs", "longest µs", "largest error")
    rows = [
        (row.contender, row.absent, "", "", "")
        if row.absent
        else (row.contender, *(f"{each:,.1f}" for each in (row.median_us, row.p99_us, row.max_us)), f"{row.error:.0e}")
        for row in found.filters
    ]
    return (
        f"## A safety filter's thinking time\n\n`{found.command}`\n\n{found.machine}; load average "
        f"{min(found.load):.1f} to {max(found.load):.1f}; {found.started}. {', '.join(found.versions)}.\n\n"
        f"Processor time of one call from Python, {found.joints} joints and {found.rows} rows, over "
        f"{found.problems:,} programs; in {found.unsafe:.0%} of them the wanted command was not safe. The error is the "
        f"distance of an answer from the checked one [rad/s].\n\n{_table(header, rows)}"
    )


def _latency(found: PolicyLatency) -> str:
    """A table a bout."""
    header = ("", "parameters", "median ms", "p99 ms", "× fermo compiled (95 %)", "ready after s")
    parts = [
        "## A diffusion policy's thinking time",
        f"`{found.command}`\n\n{found.machine}, {found.threads} thread{'s' * (found.threads > 1)}; load average "
        f"{min(found.load):.1f} to {max(found.load):.1f}; {found.started}. {', '.join(found.versions)}."
        f"{f' Commit {found.commit[:10]}.' if found.commit else ''}",
    ]
    for bout, group in itertools.groupby(latency_ratios(found.latency_rows), key=lambda each: each[0].bout):
        rows = [
            (row.contender, "", "", "", "", row.absent) if row.absent else
            (row.contender, f"{row.parameters / 1e6:.1f} M", f"{row.median_ms:,.3f}", f"{row.p99_ms:,.3f}",
             f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})" if ratio else "", f"{row.preparation_s:.0f}")
            for row, ratio in group
        ]  # fmt: skip
        title = f"### {bout.size}, batch {bout.batch:,}, {bout.evaluations} evaluations of the network, {bout.device}"
        parts += [title, _table(header, rows)]
    return "\n\n".join(parts)


def _launches(found: Profile) -> list[str]:
    if found.launches is None:
        return []
    warp, tensor = found.launches.warp, found.launches.tensor
    return [f"As one graph, a step has {warp} nodes of Warp's (physics), {tensor} of torch's (the rest), whatever N."]


def _training(found: ShortTraining) -> str:
    first, last = found.mean_rewards[0], found.mean_rewards[-1]
    name = found.task.removeprefix("fermo/")
    return (
        f"## A short training of {name}\n\n`{found.command}`\n\n{found.machine}; {found.started}. "
        f"{found.env_steps_per_s:,.0f} env-steps/s with learning, over {found.wall_s:.1f} s; the mean reward of a step "
        f"is {first:.3f} in the first of {found.rounds} rounds and {last:.3f} in the last."
    )


def _constraint(found: ConstraintCost) -> str:
    """Times and ratios, a row a construction and size."""
    rows = [
        (f"{row.work}, {row.contender}", str(row.width), str(row.batch), f"{1e3 * float(np.median(row.seconds)):,.3f}",
         f"{ratio.value:.2f} ({ratio.low:.2f} to {ratio.high:.2f})")
        for row, ratio in ratios(found.constraint_rows)
    ]  # fmt: skip
    return "\n\n".join(
        [
            "## What a Lipschitz constraint costs",
            f"`{found.command}`\n\n{found.cpu}, {found.threads} thread{'s' * (found.threads > 1)}; load average "
            f"{found.load_before:.1f} to {found.load_after:.1f}; {found.started}. torch {found.torch}."
            f"{f' Commit {found.commit[:10]}.' if found.commit else ''} Beside a free perceptron of the same size, 14 "
            "inputs, two hidden layers, 7 outputs, relu.",
            _table(("", "width", "batch", "ms", "× free (95 %)"), rows),
        ]
    )


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *([escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)
