"""Small charts as inline SVG: they inherit the page's font and colours, so they read in light and dark and in print.

Elements with ``data-tip`` show it on hover (``hover.js``); classes ``c0`` to ``c3`` of ``style.css`` are the colours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 12, 44
CLOSEST_LABELS = 34  # pixels between two tick labels


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart.

    Attributes:
        label: Named in the tip of each point.
        colour: Class of its colour.
        x: Shape ``(n,)``.
        y: Shape ``(n,)``.
        low: Lower edge of its band, or None.
        high: Upper edge of its band, or None.
        tips: One text a point; without them the points are not drawn.
        dashed: Dashed, and thinner.
    """

    label: str
    colour: str
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    tips: tuple[str, ...] = ()
    dashed: bool = False


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A linear axis over ``[low, high]`` with labelled ticks."""

    title: str
    low: float
    high: float
    ticks: tuple[float, ...]
    labels: tuple[str, ...]

    def share(self, values: np.ndarray | float) -> np.ndarray:
        """Where values lie between the ends, 0 to 1."""
        return (np.asarray(values, dtype=float) - self.low) / (self.high - self.low)


def percent_axis(title: str) -> Axis:
    """0 to 100 %."""
    ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
    return Axis(title=title, low=0.0, high=1.0, ticks=ticks, labels=tuple(f"{100 * tick:.0f} %" for tick in ticks))


def axis_at(title: str, values: Sequence[float]) -> Axis:
    """An axis with a tick at each of `values`, the measured severities for example."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - 0.5, high + 0.5
    return Axis(title=title, low=low, high=high, ticks=tuple(values), labels=tuple(f"{value:g}" for value in values))


def axis_over(title: str, low: float, high: float) -> Axis:
    """An axis with about five ticks at round numbers (1, 2, 2.5 or 5 times a power of ten)."""
    if low == high:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    ticks = [step * index for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
    return Axis(title=title, low=low, high=high, ticks=tuple(ticks), labels=tuple(f"{tick:g}" for tick in ticks))


def line_chart(name: str, lines: Sequence[Line], x: Axis, y: Axis) -> str:
    """Lines with their bands; bands first, so that no line hides under one."""
    bands = [_band(line, x, y) for line in lines if line.low is not None and line.high is not None]
    return _svg(name, _axes(x, y) + "".join(bands) + "".join(_line(line, x, y) for line in lines))


def histogram(name: str, values: np.ndarray, title: str, unit: str, bins: int = 40) -> str:
    """Counts of `values`, shape ``(n,)``, in `unit`, on equal bins."""
    counts, edges = np.histogram(values, bins=bins)
    x, y = axis_over(title, edges[0], edges[-1]), axis_over("cycles", 0.0, float(counts.max()))
    bars = []
    for count, left, right in zip(counts, edges[:-1], edges[1:], strict=True):
        corner, width, top = _px(x, left), _px(x, right) - _px(x, left), _py(y, count)
        tip = f"{count} cycles, {left:.3g} to {right:.3g} {unit}"
        bars.append(f'<rect class="bar c0" x="{corner:.1f}" y="{top:.1f}" width="{max(width - 1, 1):.1f}" '
                    f'height="{HEIGHT - BOTTOM - top:.1f}" data-tip="{escape(tip)}"/>')  # fmt: skip
    return _svg(name, _axes(x, y) + "".join(bars))


def whisker(name: str, value: float, low: float, high: float, axis: tuple[float, float], colour: str,
            zero: bool = False) -> str:  # fmt: skip
    """A dot with its interval on a bare line, to stand in a table row; `zero` marks where 0 lies."""
    width, height, edge = 220, 20, 6

    def place(number: float) -> float:
        return edge + (width - 2 * edge) * (number - axis[0]) / (axis[1] - axis[0])

    mark = f'<line class="zero" x1="{place(0):.1f}" x2="{place(0):.1f}" y1="1" y2="19"/>' if zero else ""
    return (
        f'<svg class="whisker" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-label="{escape(name)}"><line class="grid" x1="{edge}" x2="{width - edge}" y1="10" y2="10"/>{mark}'
        f'<line class="range {colour}" x1="{place(low):.1f}" x2="{place(high):.1f}" y1="10" y2="10"/>'
        f'<circle class="dot {colour}" cx="{place(value):.1f}" cy="10" r="3.5"/></svg>'
    )


def _svg(name: str, body: str) -> str:
    return f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(name)}">{body}</svg>'


def _px(axis: Axis, value: np.ndarray | float) -> np.ndarray:
    return LEFT + axis.share(value) * (WIDTH - LEFT - RIGHT)


def _py(axis: Axis, value: np.ndarray | float) -> np.ndarray:
    return HEIGHT - BOTTOM - axis.share(value) * (HEIGHT - TOP - BOTTOM)


def _axes(x: Axis, y: Axis) -> str:
    parts = []
    for tick, label in zip(y.ticks, y.labels, strict=True):
        height = float(_py(y, tick))
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{height + 3.5:.1f}" text-anchor="end">{label}</text>')
    base, labelled = HEIGHT - BOTTOM, -math.inf
    for tick, label in zip(x.ticks, x.labels, strict=True):
        place = float(_px(x, tick))
        parts.append(f'<line class="axis" x1="{place:.1f}" x2="{place:.1f}" y1="{base}" y2="{base + 4}"/>')
        if place - labelled >= CLOSEST_LABELS:
            parts.append(f'<text x="{place:.1f}" y="{base + 16}" text-anchor="middle">{escape(label)}</text>')
            labelled = place
    middle, title = (LEFT + WIDTH - RIGHT) / 2, escape(x.title)
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    parts.append(f'<text class="title" x="{middle}" y="{HEIGHT - 8}" text-anchor="middle">{title}</text>')
    return "".join(parts)


def _band(line: Line, x: Axis, y: Axis) -> str:
    across = np.concatenate([_px(x, line.x), _px(x, line.x)[::-1]])
    along = np.concatenate([_py(y, line.low), _py(y, line.high)[::-1]])  # type: ignore[arg-type]
    return f'<polygon class="band {line.colour}" points="{_points(across, along)}"/>'


def _line(line: Line, x: Axis, y: Axis) -> str:
    across, along = _px(x, line.x), _py(y, line.y)
    dashed = " dashed" if line.dashed else ""
    drawn = f'<polyline class="line {line.colour}{dashed}" points="{_points(across, along)}"/>'
    for left, top, tip in zip(across, along, line.tips, strict=False):
        place = f'cx="{left:.1f}" cy="{top:.1f}"'
        drawn += (f'<circle class="dot {line.colour}{dashed}" {place} r="{2.2 if line.dashed else 3}"/>'
                  f'<circle class="hit" {place} r="9" data-tip="{escape(tip)}"/>')  # fmt: skip
    return drawn


def _points(across: np.ndarray, along: np.ndarray) -> str:
    return " ".join(f"{left:.1f},{top:.1f}" for left, top in zip(across, along, strict=True))
