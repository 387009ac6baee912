"""The sections of the report: each takes records and returns HTML, with a plain sentence beside every figure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

import numpy as np

from fermo.training.report import schema
from fermo.training.report.svg import Line, axis_at, axis_over, histogram, line_chart, percent_axis, whisker
from fermo.training.statistics import Interval, newcombe_paired, wilson

Colours = Mapping[str, str]
"""Policy key to colour class, the same over the whole page."""


def colours_of(headline: schema.Headline) -> dict[str, str]:
    """Colour classes in the order the policies are listed; a fifth policy starts over."""
    return {score.policy: f"c{index % 4}" for index, score in enumerate(headline.scores)}


def opening(headline: schema.Headline) -> str:
    """Title and the result in one sentence."""
    first, *others = headline.scores
    rate = wilson(first.successes, first.trials)
    compared = "; ".join(f"{score.label} on {_percent(score.successes / score.trials)}" for score in others)
    result = f"{first.label} succeeded on {_percent(rate.value)} of {first.trials} held-out starts ({_range(rate)})"
    return (
        f'<p class="soft"><code>{escape(headline.task)}</code></p><h1>How robust is the policy?</h1>'
        f'<p class="lede">{escape(result)}{escape(f", {compared}" if compared else "")}.</p>'
        f'<p class="soft">{escape(headline.goal)} Every interval on this page is a 95 % interval: Wilson’s for a '
        "success rate, Newcombe’s for a paired difference.</p>"
    )


def success(headline: schema.Headline, colours: Colours) -> str:
    """Table of success rates over held-out starts."""
    rows = []
    for score in headline.scores:
        rate = wilson(score.successes, score.trials)
        chart = whisker(f"{score.label}: {_percent(rate.value)}, {_range(rate)}", float(rate.value), float(rate.low),
                        float(rate.high), (0.0, 1.0), colours[score.policy])  # fmt: skip
        episodes = f"{score.successes} of {score.trials}"
        rows.append([escape(score.label), _percent(rate.value), _range(rate), episodes, chart])
    table = _table(["Policy", "#Success", "#95 % interval", "#Episodes", "0 to 100 %"], rows)
    return _section("Success without perturbation", table + f'<p class="soft">{escape(headline.starts)}</p>')


def robustness(record: schema.Robustness, colours: Colours) -> str:
    """One small chart a perturbation, under a common legend."""
    figures = "".join(_curve(curve, colours) for curve in record.curves)
    legend = _legend((s.label, colours.get(s.policy, "c3"), s.random) for curve in record.curves for s in curve.series)
    words = ("Each chart makes one thing about the plant worse and counts how often the policies still succeed. "
             "Shaded: the interval. Dashed: random noise with the same norm as the perturbation, which shows how much "
             "of the harm is due to its direction. Point at a dot for its numbers.")  # fmt: skip
    return _section("Robustness", f'<p>{words}</p>{legend}<div class="pair">{figures}</div>')


def certificate(record: schema.Certificate) -> str:
    """What is proved, in which norm, over which units."""
    slack = record.lipschitz / record.steepest_slope_found if record.steepest_slope_found > 0 else None
    asked = "" if record.gamma_requested is None else f" It was built for {record.gamma_requested:g}."
    tight = "" if slack is None else f", so the bound is at most {slack:.2f} times too large"
    words = (f"For any two observations the action differs at most {record.lipschitz:.4g} times as much, "
             f"{record.norm}, when both are counted in standard deviations of the demonstrations.{asked} "
             f"The steepest slope that a search found is {record.steepest_slope_found:.4g}{tight}.")  # fmt: skip
    how = "by construction, whatever training did" if record.by_construction else "computed after training"
    proof = (f"{record.claim}, for observations: {record.domain}", f"proved by: {record.method}, {how}")
    small = "".join(f"<li>{escape(line)}</li>" for line in (*proof, *record.conditions))
    gains = ((row.observation, row.command, f"{row.gain:.3g}", row.unit) for row in record.sensitivity)
    rows = [[escape(cell) for cell in row] for row in gains]
    table = _table(["When this observation changes", "this command moves at most", "#Bound", "in"], rows)
    card = f'<div class="card"><p>{escape(words)}</p></div>'
    return _section("Certificate", f'{card}{table}<ul class="soft">{small}</ul>')


def paired(record: schema.PairedSweep) -> str:
    """What the constraint costs, on the same starts, over gamma."""
    table_rows, chosen = [], ""
    intervals = [newcombe_paired(r.both, r.only_constrained, r.only_unconstrained, r.neither) for r in record.rows]
    reach = max(0.05, *(abs(float(bound)) for interval in intervals for bound in (interval.low, interval.high)))
    for row, difference in zip(record.rows, intervals, strict=True):
        chart = whisker(f"gamma {row.gamma:g}: {_points(difference)}", float(difference.value), float(difference.low),
                        float(difference.high), (-reach, reach), "c0", zero=True)  # fmt: skip
        split = f"{row.both} / {row.only_constrained} / {row.only_unconstrained} / {row.neither}"
        is_chosen = row.gamma == record.chosen
        name = f"{row.gamma:g}{' (chosen)' if is_chosen else ''}"
        table_rows.append([name, *_points(difference).split("; "), chart, split])
        if is_chosen:
            points = _points(difference).replace("; ", ", ")
            chosen = f"At the chosen gamma, {row.gamma:g}, the difference is {points} points."
    head = ["Gamma", "#Difference, points", "#95 % interval", f"±{100 * reach:.0f} points", "#Starts"]
    words = ("Both policies started from the same states, so their outcomes are compared start by start. Negative "
             "means the constraint costs success. The last column counts the starts on which both succeeded, only the "
             "constrained one, only the unconstrained one, and neither.")  # fmt: skip
    return _section("What the constraint costs", f"<p>{words} {chosen}</p>{_table(head, table_rows)}")


def deployment(record: schema.Deployment) -> str:
    """The loop's timing on the robot's wire."""
    periods, lateness = 1e3 * np.array(record.periods_s), 1e3 * np.array(record.lateness_s)
    rate = wilson(record.successes, record.episodes)
    rows = [
        [name, *(f"{value:.2f}" for value in (values.mean(), *np.quantile(values, (0.5, 0.99, 1.0))))]
        for name, values in (("Period, ms", periods), ("Lateness, ms", lateness))
    ]
    cycles = len(record.lateness_s)
    half, hundredth = np.quantile(lateness, (0.5, 0.99))
    late = f"Half of the {cycles} cycles started less than {half:.2f} ms late, 1 % more than {hundredth:.2f} ms."
    steady = f"The loop aimed at {1e3 * record.period_s:g} ms; {record.misses} cycles missed their end."
    charts = _figure("Lateness", histogram("Histogram of lateness", lateness, "lateness of a cycle [ms]", "ms"), late)
    charts += _figure("Period", histogram("Histogram of the period", periods, "period of a cycle [ms]", "ms"), steady)
    words = (f"The same checkpoint drove {record.robot} in {record.episodes} episodes and succeeded in "
             f"{record.successes} ({_range(rate)}). Of {cycles} control cycles {record.misses} missed their "
             f"deadline and {record.stale_reads} acted on a repeated reading.")  # fmt: skip
    table = _table(["", "#Mean", "#Median", "#99th percentile", "#Largest"], rows)
    return _section("On the robot’s wire", f'<p>{escape(words)}</p>{table}<div class="pair">{charts}</div>')


def videos(simulation: bytes, twin: bytes) -> str:
    """Both videos inside the page."""
    figures = ""
    for title, content, words in (
        ("Simulator", simulation, "The policy in the training simulator."),
        ("Twin", twin, "The same file on the twin, over the robot’s own protocol."),
    ):
        data = base64.b64encode(content).decode("ascii")
        video = f'<video controls loop muted playsinline src="data:video/mp4;base64,{data}"></video>'
        figures += _figure(title, video, words)
    return _section("Seen", f'<div class="pair">{figures}</div>')


def differences(record: schema.Differences) -> str:
    """What the twin does that the training simulator does not."""
    words = "The twin is not the simulator the policy was trained in. These are the differences we know of."
    rows = "".join(f"<li>{escape(row)}</li>" for row in record.rows)
    return _section("What differs between simulator and twin", f"<p>{words}</p><ul>{rows}</ul>")


def training(record: schema.Training, colours: Colours) -> str:
    """Training curves."""
    figures = ""
    for chart in record.charts:
        lines = [
            Line(label=line.label, colour=colours.get(line.policy, "c3"), x=np.array(line.steps, dtype=float),
                 y=np.array(line.values))
            for line in chart.lines
        ]  # fmt: skip
        values = np.concatenate([line.y for line in lines])
        x = axis_over("step", min(line.x.min() for line in lines), max(line.x.max() for line in lines))
        y = axis_over("", min(0.0, float(values.min())), float(values.max()))
        ends = ", ".join(f"{line.label} {line.values[-1]:.3g}" for line in chart.lines)
        title = f"{chart.title}{_unit(chart.unit)}"
        figures += _figure(title, line_chart(title, lines, x, y), f"{chart.sentence} At the end: {ends}.")
    lines = (line for chart in record.charts for line in chart.lines)
    legend = _legend((line.label, colours.get(line.policy, "c3"), False) for line in lines)
    return _section("Training", f'{legend}<div class="pair">{figures}</div>')


def made_by(run: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Provenance: enough to make the page again."""
    machine, git = run["machine"], run["git"]
    hardware = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']:g} GiB, {machine['system']}"
    commit = f"{git['commit']}{', with local edits' if git['edited'] else ''}" if git else "not a git checkout"
    rows = {
        "Command": f"<code>{escape(run['command'])}</code>",
        "Started": escape(run["started"]),
        "Seeds": escape(", ".join(f"{use} {seed}" for use, seed in run["seeds"].items()) or "none"),
        "Commit": f"<code>{escape(commit)}</code>",
        "Machine": escape(f"{hardware}; GPU: {', '.join(machine['gpus']) or 'none'}"),
        "Versions": escape(", ".join(f"{name} {version}" for name, version in run["versions"].items())),
    }  # fmt: skip
    table = _table(["", ""], [[name, value] for name, value in rows.items()])
    text = escape(json.dumps(config, indent=2))
    details = f"<details><summary>Config</summary><pre><code>{text}</code></pre></details>"
    return _section("Where these numbers come from", table + details)


def _curve(curve: schema.Curve, colours: Colours) -> str:
    severities = np.array(curve.severities)
    lines, endings = [], {False: [], True: []}
    worst = int(np.argmin(curve.series[0].successes))  # harm may lie at either end, as with friction
    for series in curve.series:
        rate = wilson(series.successes, series.trials)
        label = f"{series.label}, random noise" if series.random else series.label
        tips = tuple(
            f"{label} at {severity:g}{_unit(curve.unit)}: {_percent(value)}, {100 * low:.0f} to {100 * high:.0f} %"
            f" ({s} of {n})"
            for severity, value, low, high, s, n in zip(severities, *rate, series.successes, series.trials, strict=True)
        )
        band = {} if series.random else {"low": rate.low, "high": rate.high}
        lines.append(Line(label=label, colour=colours.get(series.policy, "c3"), x=severities, y=rate.value, tips=tips,
                          dashed=series.random, **band))  # fmt: skip
        endings[series.random].append(f"{series.label} {_percent(rate.value[worst], 0)}")
    axis = axis_at(f"severity{_unit(curve.unit, brackets=True)}", curve.severities)
    strongest = f"At {severities[worst]:g}{_unit(curve.unit)}: {', '.join(endings[False])}"
    noise = f"; under random noise of equal norm {', '.join(endings[True])}" if endings[True] else ""
    sentence = f"{curve.sentence} {strongest}{noise}."
    return _figure(curve.title, line_chart(curve.title, lines, axis, percent_axis("success")), sentence)


def _legend(entries: Iterable[tuple[str, str, bool]]) -> str:
    items = "".join(
        f'<li><svg viewBox="0 0 28 10" aria-hidden="true"><line class="line {colour}{" dashed" if dashed else ""}" '
        f'x1="0" x2="28" y1="5" y2="5"/></svg>{escape(label)}{", random noise of equal norm" if dashed else ""}</li>'
        for label, colour, dashed in dict.fromkeys(entries)
    )
    return f'<ul class="legend">{items}</ul>'


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _figure(title: str, body: str, sentence: str) -> str:
    return f"<figure><h3>{escape(title)}</h3>{body}<figcaption>{escape(sentence)}</figcaption></figure>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose cells are HTML; a heading that starts with '#' is a column of numbers."""
    kinds = [' class="number"' if name.startswith("#") else ' class="mid"' for name in head]
    titles = "".join(f"<th{kind}>{escape(name.removeprefix('#'))}</th>" for name, kind in zip(head, kinds, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{cell}</td>' for cell, kind in zip(row, kinds, strict=True))}</tr>" for row in rows
    )
    header = f"<thead><tr>{titles}</tr></thead>" if any(head) else ""
    return f'<div class="scroll"><table>{header}<tbody>{body}</tbody></table></div>'


def _percent(rate: Any, digits: int = 1) -> str:
    return f"{100 * float(rate):.{digits}f} %"


def _range(interval: Interval) -> str:
    return f"{100 * float(interval.low):.1f} to {100 * float(interval.high):.1f} %"


def _points(interval: Interval) -> str:
    value, low, high = (100 * float(part) for part in interval)
    return f"{value:+.1f}; {low:+.1f} to {high:+.1f}".replace("-", "\N{MINUS SIGN}")


def _unit(unit: str, brackets: bool = False) -> str:
    if unit == "1":
        return ""
    return f" [{unit}]" if brackets else f" {unit}"
