"""Tables that the documentation takes from the code and from what reproductions wrote: ``<!-- table: NAME -->``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any


def tasks() -> str:
    """Every task with its signals and units."""
    from fermo.envs.registry import TASKS, make_task

    parts = []
    for name in TASKS:
        task = make_task(name)
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


TABLES: dict[str, Callable[[], str]] = {
    "tasks": tasks,
    "perturbations": perturbations,
    "twin differences": twin_differences,
    "commands": commands,
    "reproductions": reproductions,
}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """MkDocs calls this for every page."""
    return re.sub(r"<!-- table: ([\w ]+) -->", lambda found: TABLES[found.group(1)](), markdown)
