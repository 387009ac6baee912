"""Drawings of measured speed as inline SVG, in the page's own font and colours."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from fermo.benchmarks import summary
from fermo.benchmarks.profile import Profile
from fermo.benchmarks.results import Comparison
from fermo.training.report import svg

STYLE = (
    "<style>.speed text{fill:currentColor;font-size:11px}.speed .c0{--colour:#3f7ee8}.speed .c1{--colour:#d9702f}"
    ".speed .c2{--colour:#7b8796}.speed .c3{--colour:#9a5fd0}.speed .bar{fill:var(--colour);opacity:.85}"
    ".speed .line{fill:none;stroke:var(--colour);stroke-width:2}.speed .dot{fill:var(--colour)}.speed .hit{fill:none}"
    ".speed .grid{stroke:currentColor;opacity:.15}.speed .axis,.speed .range{stroke:currentColor;opacity:.6}"
    ".speed svg{width:100%;height:auto}.speed .pair{display:flex;flex-wrap:wrap;gap:1rem}"
    ".speed figure{flex:1 1 18rem;max-width:30rem;margin:0}</style>"
)
_COLOURS = ("c0", "c1", "c2", "c3")
_NAMES, _BARS, _ROW = 190, 360, 22


def rate_bars(comparison: Comparison) -> str:
    """Environment steps per second of everybody that ran, with the interval of the median."""
    shown = [line for line in summary.lines(comparison) if line.rate]
    if not shown:
        return ""
    longest = max(line.rate.high for line in shown if line.rate)
    parts = []
    for index, line in enumerate(shown):
        assert line.rate is not None
        value, low, high = (_BARS * float(limit) / longest for limit in line.rate)
        top, colour = index * _ROW, _COLOURS[0] if index == 0 else _COLOURS[2]
        parts.append(
            _name(top, line.row.label)
            + f'<rect class="bar {colour}" x="{_NAMES}" y="{top + 4}" width="{value:.1f}" height="14"/>'
            f'<line class="range" x1="{_NAMES + low:.1f}" x2="{_NAMES + high:.1f}" y1="{top + 11}" y2="{top + 11}"/>'
            f'<text x="{_NAMES + high + 6:.1f}" y="{top + 15}">{line.rate.value:,.0f}</text>'
        )
    return _drawing(f"environment steps per second of {comparison.task}", len(shown), parts)


def growth(group: Sequence[Comparison]) -> str:
    """Time of a world's step, and memory of a world, over N; both axes in powers."""
    time = _over_worlds(group, "µs a step of a world", lambda line: 1e6 / float(line.rate.value) if line.rate else None)
    memory = _over_worlds(group, "KiB a world", lambda line: line.world_bytes / 1024 if line.world_bytes else None)
    key = " ".join(
        f'<span class="{colour}" style="color:var(--colour)">■</span> {escape(row.label)}'
        for row, colour in zip(group[0].rows, _COLOURS, strict=False)
    )
    return f'<div class="speed"><div class="pair">{time}{memory}</div>{key}</div>'


def shares(found: Profile) -> str:
    """Stages of a step, widths in proportion."""
    parts = []
    shown = [share for share in found.stages if share.share >= 0.0005]
    for index, share in enumerate(shown):
        top, width = index * _ROW, _BARS * share.share
        parts.append(
            _name(top, share.stage)
            + f'<rect class="bar {_COLOURS[0]}" x="{_NAMES}" y="{top + 4}" width="{width:.1f}" height="14"/>'
            f'<text x="{_NAMES + width + 6:.1f}" y="{top + 15}">{share.share:.1%}</text>'
        )
    return _drawing(f"where a step of {found.task} goes", len(shown), parts)


def _over_worlds(group: Sequence[Comparison], title: str, value: Callable[[summary.Line], float | None]) -> str:
    """One line a contender over the numbers of worlds at which it has a value."""
    points: dict[str, list[tuple[float, float]]] = {row.contender: [] for row in group[0].rows}
    for comparison in group:
        for line in summary.lines(comparison):
            found = value(line)
            if found is not None and line.row.contender in points:
                points[line.row.contender].append((math.log2(comparison.num_envs), math.log10(found)))
    known = [height for line in points.values() for _, height in line]
    if not known:
        return ""
    counts = [each.num_envs for each in group]
    x = svg.Axis(title="worlds", low=math.log2(min(counts)), high=math.log2(max(counts)),
                 ticks=tuple(map(math.log2, counts)), labels=tuple(map(str, counts)))  # fmt: skip
    low, high = math.floor(min(known)), math.ceil(max(known) + 1e-9)
    powers = range(low, max(high, low + 1) + 1)
    y = svg.Axis(title=title, low=powers[0], high=powers[-1], ticks=tuple(map(float, powers)),
                 labels=tuple(f"{10.0**power:g}" for power in powers))  # fmt: skip
    drawn = [
        svg.Line(label=name, colour=colour, x=np.array(line)[:, 0], y=np.array(line)[:, 1], tips=("",) * len(line))
        for (name, line), colour in zip(points.items(), _COLOURS, strict=False) if line
    ]  # fmt: skip
    return f"<figure>{svg.line_chart(title, drawn, x, y)}<figcaption>{escape(title)}</figcaption></figure>"


def _name(top: int, words: str) -> str:
    return f'<text x="{_NAMES - 8}" y="{top + 15}" text-anchor="end">{escape(words)}</text>'


def _drawing(name: str, rows: int, parts: Sequence[str]) -> str:
    width, height = _NAMES + _BARS + 90, rows * _ROW + 4
    return (
        f'<div class="speed"><svg viewBox="0 0 {width} {height}" width="100%" role="img" aria-label="{escape(name)}">'
        f"{''.join(parts)}</svg></div>"
    )
