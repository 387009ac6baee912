"""The documentation's tables, made from the JSON that reproductions wrote; what was not run stays empty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fermo.training.files import read_json
from fermo.training.records import from_json
from fermo.training.reproduce.registry import Budget, Number, Reproduction


def markdown_table(reproduction: Reproduction, folder: Path | str = "reproductions") -> str:
    """A reproduction's rows beside the paper's own numbers, and a line on what each budget took.

    Args:
        reproduction: Which one.
        folder: As given to `reproduce`.

    Returns:
        Markdown, ending in a newline.
    """
    paths = {budget: Path(folder) / reproduction.name / f"{budget}.json" for budget in Budget}
    summaries = {budget: read_json(path) for budget, path in paths.items() if path.exists()}
    lines = [_line("Result", "Published", *Budget), _line(*["---"] * (2 + len(Budget)))]
    for row in reproduction.rows:
        published = f"{row.published} ({row.source})" if row.published and row.source else row.published
        measured = (_number(summaries.get(budget), row.cell, row.number) for budget in Budget)
        lines.append(_line(row.label, published, *measured))
    lines += ["", *(_cost(budget, summary) for budget, summary in summaries.items())]
    return "\n".join(lines).rstrip("\n") + "\n"


def _number(summary: dict[str, Any] | None, cell: str, name: str) -> str:
    """A number with its interval and unit; empty when its cell was not run."""
    for record in summary["cells"] if summary else ():
        if record["cell"] == cell and name in record["numbers"]:
            number = from_json(Number, record["numbers"][name], f"{cell}: {name}")
            interval = "" if number.low is None else f" [{number.low:.3g}, {number.high:.3g}]"
            return f"{number.value:.3g}{interval}{'' if number.unit == '1' else f' {number.unit}'}"
    return ""


def _cost(budget: str, summary: dict[str, Any]) -> str:
    machines = sorted({f"{place['machine']['cpu']}, {place['machine']['cores']} cores" for place in summary["made_by"]})
    cells = f"{summary['cells_done']} of {summary['cells_total']} cells"
    cost = f"{summary['wall_s'] / 60:.1f} min wall, {summary['cpu_s'] / 60:.1f} min CPU"
    return f"`{budget}`: {cells}, {cost}, on {'; '.join(machines)}.  "


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"
