"""Draws the numbers of a reproduction: a dot with its interval for each, numbers of one unit on one scale."""

from __future__ import annotations

from html import escape
from pathlib import Path

from fermo.training.report import svg
from fermo.training.reproduce.registry import Number, Results

ROW, NAME_WIDTH, WIDTH = 24, 300, 720


def figure(title: str, results: Results) -> str:
    """A stand-alone SVG file of every number.

    Args:
        title: Stands at the top.
        results: Numbers by name, by cell.
    """
    by_unit: dict[str, list[tuple[str, Number]]] = {}
    for cell, numbers in results.items():
        for name, number in numbers.items():
            by_unit.setdefault(number.unit, []).append((f"{cell}: {name}", number))
    parts, top = [_text(0, 18, title, "title")], 36
    for unit, rows in by_unit.items():
        ends = [bound for _, number in rows for bound in _limits(number)]
        low, high = min(ends), max(ends)
        axis = (low, high) if high > low else (low - 0.5, low + 0.5)
        scale = f"{axis[0]:.3g} to {axis[1]:.3g}{'' if unit == '1' else f' {unit}'}"
        parts.append(_text(NAME_WIDTH, top + 14, scale))
        for index, (name, number) in enumerate(rows, start=1):
            parts.append(_row(top + index * ROW, name, number, axis))
        top += (len(rows) + 1) * ROW + 10
    style = Path(svg.__file__).with_name("style.css").read_text(encoding="utf-8")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-10 0 {WIDTH} {top}" width="{WIDTH}" height="{top}" '
        f'font-family="system-ui, sans-serif"><style>{style}</style>{"".join(parts)}</svg>\n'
    )


def _row(top: int, name: str, number: Number, axis: tuple[float, float]) -> str:
    low, high = _limits(number)
    drawn = svg.whisker(name, number.value, low, high, axis, "c0")
    text = f"{number.value:.4g}" + (f" ({low:.3g} to {high:.3g})" if number.low is not None else "")
    return (
        _text(0, top + 14, name)
        + f'<g transform="translate({NAME_WIDTH} {top})">{drawn}</g>'
        + _text(NAME_WIDTH + 235, top + 14, text)
    )


def _text(left: float, top: float, words: str, kind: str = "tick") -> str:
    return f'<text class="{kind}" x="{left}" y="{top}">{escape(words)}</text>'


def _limits(number: Number) -> tuple[float, float]:
    """The interval, or the value twice where there is none."""
    return (number.value if number.low is None else number.low, number.value if number.high is None else number.high)
