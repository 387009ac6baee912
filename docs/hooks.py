"""Tables that the documentation takes from the code and from what reproductions wrote: ``<!-- table: NAME -->``.

MkDocs fills them when it builds the pages. ``python docs/hooks.py README.md`` fills those of a file that is read as it
is, where a table ends with ``<!-- end of table -->``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def tasks() -> str:
    """Every task with its signals and units."""
    from fermo.envs.registry import TASKS, make_task
    from fermo.errors import FermoError

    parts = []
    for name in TASKS:
        try:
            task = make_task(name)
        except FermoError as error:  # an extra is missing
            parts.append(f"## {name}\n\n{error}\n")
            continue
        parts.append(f"## {name}\n\n{(type(task).__doc__ or '').strip()}\n")
        parts.append(f"{task.spec.rate_hz:g} Hz, {task.max_steps * task.control_dt:g} s an episode.\n")
        parts.append("| | signal | shape | unit | from | |\n|---|---|---|---|---|---|")
        for kind, signals in (("observes", task.spec.observations), ("commands", task.spec.commands)):
            for signal in signals:
                shape = " x ".join(map(str, signal.shape)) or "1"
                parts.append(
                    f"| {kind} | `{signal.name}` | {shape} | {signal.unit} | {signal.device} | {signal.description} |"
                )
        parts.append("")
    return "\n".join(parts)


def perturbations() -> str:
    """Every perturbation with its unit and bounds."""
    from fermo.envs.perturbations.registry import describe

    rows = [
        f"| `{facts.name}` | {facts.unit} | {facts.nominal:g} | {facts.low:g} to {facts.high:g} | "
        f"{facts.sentence.replace('|', '&#124;')} |"
        for facts in describe()
    ]
    return "\n".join(["| name | severity in | nominal | bounds | what happens |", "|---|---|---|---|---|", *rows])


def grid() -> str:
    """The perturbations and severities that `fermo bench` tries, by task."""
    from fermo.envs.perturbations.registry import perturbation_class
    from fermo.training.bench.grid import GRIDS

    lines = []
    for task, axes in GRIDS.items():
        lines += [f"What is tried on `{task}`:\n", "| perturbation | unit | severities | |", "|---|---|---|---|"]
        for axis in axes:
            unit = "standard deviations" if axis.normalised else perturbation_class(axis.kind).unit
            severities = ", ".join(f"{value:g}" for value in axis.severities)
            lines.append(f"| `{axis.kind}` | {unit} | {severities} | {axis.sentence} |")
        lines.append("")
    return "\n".join(lines)


def twin_differences() -> str:
    """How the SO-101's twin departs from the training simulator."""
    from fermo.hardware.twins.so101 import TWIN_DIFFERENCES

    return "\n".join(f"- {difference}" for difference in TWIN_DIFFERENCES)


def commands() -> str:
    """Every subcommand."""
    from fermo.cli import COMMANDS

    rows = [f"| `fermo {name}` | {line} |" for name, line in COMMANDS.items()]
    return "\n".join(["| command | |", "|---|---|", *rows])


def reproductions() -> str:
    """The rows of every reproduction, from the JSON in ``reproductions/``."""
    import fermo.cli.reproductions  # noqa: F401  registers them
    from fermo.training.reproduce.registry import REPRODUCTIONS
    from fermo.training.reproduce.table import markdown_table

    if not REPRODUCTIONS:
        return "No reproduction is registered yet."
    return "\n".join(f"## {item.name}\n\n{item.title}\n\n{markdown_table(item)}" for item in REPRODUCTIONS.values())


def rows_of(name: str) -> Callable[[], str]:
    """The rows of one reproduction alone."""

    def table() -> str:
        import fermo.cli.reproductions  # noqa: F401  registers them
        from fermo.training.reproduce.registry import find
        from fermo.training.reproduce.table import markdown_table

        return markdown_table(find(name))

    return table


def _largest_budget(name: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """Of each cell of a reproduction, the largest budget that was run, and its numbers."""
    home, found = Path(__file__).parents[1] / "reproductions" / name, {}
    for budget in ("smoke", "small", "paper"):
        path = home / f"{budget}.json"
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"] if path.exists() else []
        found |= {cell["cell"]: (budget, cell["numbers"]) for cell in cells}
    return found


def trade_off() -> str:
    """The curves of ``lipschitz-trade-off`` by task, a line a bound: means over seeds, largest budget.

    The share kept is the score under the strongest attack that each seed met, of those tried at every severity, over
    the clean one.
    """
    from statistics import fmean

    from fermo.cli.reproductions.lipschitz_trade_off import TASKS

    found, lines = _largest_budget("lipschitz-trade-off"), [rows_of("lipschitz-trade-off")(), ""]
    for task in TASKS:
        budget, numbers = found.get(f"{task.lower()}/all", ("", {}))
        if not numbers:
            continue
        seeds = [{name: number["value"] for name, number in own.items()} for cell, (_, own) in found.items()
                 if cell.startswith(f"{task.lower()}/seed=")]  # fmt: skip
        mean = {name: number["value"] for name, number in numbers.items()}
        severities = sorted({float(name.split("/")[2]) for name in mean if name.count("/") == 2})
        shown = " | ".join(f"kept at {severity:g}" for severity in severities)
        lines += [f"`{task}`, {budget}:\n", f"| bound | certified | found | clean | {shown} | late by 1, 2 steps |",
                  "|---" * (5 + len(severities)) + "|"]  # fmt: skip
        for policy in (name.removesuffix("/clean") for name in mean if name.endswith("/clean")):
            kept = [fmean(_least(seed, policy, severity) / seed[f"{policy}/clean"] for seed in seeds)
                    for severity in severities]  # fmt: skip
            late = ", ".join(f"{mean[f'{policy}/late by {steps}']:.3g}" for steps in (1, 2))
            row = [policy, *(f"{mean[f'{policy}/{name}']:.3g}" for name in ("lipschitz", "slope", "clean")),
                   *(f"{share:.2f}" for share in kept), late]  # fmt: skip
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def _least(scores: dict[str, float], policy: str, severity: float) -> float:
    """A policy's score under the strongest attack of a severity; the learned one, tried at one alone, is left out."""
    return min(score for name, score in scores.items() if name.startswith(f"{policy}/")
               and name.endswith(f"/{severity:g}") and "learned_attack" not in name)  # fmt: skip


def smoothness() -> str:
    """The measures of ``lipschitz-smoothness`` by task, a line a policy: means over seeds, largest budget."""
    from fermo.cli.reproductions.lipschitz_smoothness import POLICIES, TASKS

    found, lines = _largest_budget("lipschitz-smoothness"), []
    for task in TASKS:
        budget, numbers = found.get(f"{task.lower()}/all", ("not run yet", {}))
        lines += [f"`{task}`, {budget}; without and with noise:\n",
                  "| | chosen, mean | success | fluctuation | jitter | spectrum | time of a decision |",
                  "|---|---|---|---|---|---|---|"]  # fmt: skip
        for policy, title in POLICIES.items():
            told = {name: f"{number['value']:.3g}" for name, number in numbers.items()}
            both = [[f"{policy}/{measure}/{condition}" for condition in ("clean", "noise")]
                    for measure in ("success", "fluctuation", "jitter", "spectrum")]  # fmt: skip
            pairs = [" / ".join(told[name] for name in names if name in told) for names in both]
            row = [title, told.get(f"{policy}/strength", ""), *pairs, told.get(f"{policy}/time", "")]
            lines.append(f"| {' | '.join(row)} |")
        lines.append("")
    return "\n".join(lines)


def chunking() -> str:
    """The measures of ``beso-real-time-chunking`` by delay and mode, largest budget."""
    from fermo.hardware.chunking import CHUNKINGS

    measures = ("jerk", "inner_jerk", "largest_step", "delay", "holds", "late", "success")
    home = Path(__file__).parents[1] / "reproductions" / "beso-real-time-chunking"
    budget = next((name for name in ("paper", "small", "smoke") if (home / f"{name}.json").exists()), None)
    lines = [f"{budget or 'not run yet'}:\n",
             "| delay | mode | jerk at seams [rad/s^3] | inside chunks | largest step at a seam [rad] | actions in an "
             "inference | holds | late | success |", "|---|---|---|---|---|---|---|---|---|"]  # fmt: skip
    cells = json.loads((home / f"{budget}.json").read_text(encoding="utf-8"))["cells"] if budget else []
    for cell in cells:
        for mode in CHUNKINGS:
            told = [cell["numbers"].get(f"{mode}/{measure}") for measure in measures]
            if all(told):
                row = [cell["cell"].replace("delay=", ""), mode, *map(_with_interval, told)]
                lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _with_interval(number: dict[str, Any]) -> str:
    interval = "" if number["low"] is None else f" [{number['low']:.3g}, {number['high']:.3g}]"
    return f"{number['value']:.3g}{interval}"


def performance() -> str:
    """Speed and profiles, from the JSON in ``benchmarks/results/``."""
    from fermo.benchmarks.page import markdown

    return markdown()


def divergence() -> str:
    """How far the engines are apart on each task, from the JSON that `fermo divergence` wrote."""
    lines = ["| task | worlds x steps | one step, median | max | drift at the end, median | max | growth a step |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for path in sorted((Path(__file__).parents[1] / "benchmarks" / "divergence").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        one, drift, growth = found["one_step"], found["drift"], found["growth_per_step"]
        told = ", ".join(f"{growth[phase]:.3f} {phase}" for phase in ("free", "contact") if growth[phase])
        middle = sorted(one["median"])[len(one["median"]) // 2]
        lines.append(f"| {found['task']} | {found['worlds']} x {found['steps']} | {middle:.1e} | {max(one['max']):.1e} "
                     f"| {drift['median'][-1]:.1e} | {drift['max'][-1]:.1e} | {told} |")  # fmt: skip
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "tasks": tasks,
    "perturbations": perturbations,
    "grid": grid,
    "twin differences": twin_differences,
    "commands": commands,
    "reproductions": reproductions,
    "results": rows_of("so101-demo"),
    "lipschitz bounds": rows_of("lipschitz-bounds"),
    "cart pole": rows_of("cart-pole-trade-off"),
    "trade off": trade_off,
    "smoothness": smoothness,
    "chunking": chunking,
    "performance": performance,
    "divergence": divergence,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for every page."""
    return re.sub(r"<!-- table: ([\w ]+) -->", lambda found: TABLES[found.group(1)](), markdown)


def fill_in_place(path: Path) -> None:
    """Renew every table of a Markdown file that carries both marks."""
    text = path.read_text(encoding="utf-8")
    marked = r"<!-- table: ([\w ]+) -->\n.*?<!-- end of table -->"
    fresh = re.sub(
        marked, lambda found: f"<!-- table: {found[1]} -->\n\n{TABLES[found[1]]()}\n<!-- end of table -->", text,
        flags=re.DOTALL,
    )  # fmt: skip
    if fresh != text:
        path.write_text(fresh, encoding="utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        fill_in_place(Path(name))
