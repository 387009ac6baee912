"""Runs a reproduction cell by cell; a cell whose result is on disk is not done again.

In ``reproductions/NAME``: ``<budget>.json`` holds every number and is rewritten after each cell, ``<budget>.svg`` draws
them once all cells are done, ``<budget>/cells`` has one result a cell, ``<budget>/work`` the cells' own files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from fermo.errors import FermoError, unknown_name
from fermo.training.files import plain, read_json, write_json, write_text
from fermo.training.provenance import provenance
from fermo.training.records import from_json
from fermo.training.reproduce.figure import figure
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Workspace, find
from fermo.training.stopwatch import stopwatch


@dataclass(frozen=True, kw_only=True)
class CellRecord:
    """A finished cell.

    Attributes:
        cell: Its name.
        seed: Its seed.
        steps: Its steps.
        wall_s: Wall time of the process that finished it [s].
        cpu_s: CPU time of the same [s].
        numbers: By name.
        made_by: Versions, commit, machine and command.
    """

    cell: str
    seed: int
    steps: int
    wall_s: float
    cpu_s: float
    numbers: dict[str, Number]
    made_by: dict[str, Any]


def reproduce(name: str, *, budget: str = Budget.SMOKE, folder: Path | str = "reproductions",
              resume: bool = False) -> Path:  # fmt: skip
    """Run a registered reproduction to its end.

    Args:
        name: Its name.
        budget: ``"smoke"``, ``"small"`` or ``"paper"``.
        folder: Where results go.
        resume: Keep the cells that are done; without it a budget that was begun is refused.

    Returns:
        The JSON file with every number.

    Raises:
        FermoError: An unknown name or budget, a budget begun before, a cell made with another seed or other steps, or
            results that fail the reproduction's own check (they are on disk then).
    """
    reproduction = find(name)
    if budget not in list(Budget):
        raise unknown_name("budget", budget, list(Budget))
    cells = tuple(reproduction.cells(Budget(budget)))
    repeated = {cell.name for cell in cells if [other.name for other in cells].count(cell.name) > 1}
    if repeated or not cells:
        raise FermoError(f"reproduction {name!r} needs cells of different names; repeated: {sorted(repeated)}")
    home = Path(folder) / name
    if (home / budget).exists() and not resume:
        raise FermoError(f"{home / budget} was begun before; add --resume to continue it, or remove that folder")
    records = _run(reproduction, cells, home, budget)
    write_text(home / f"{budget}.svg", figure(f"{reproduction.title}, {budget}", _numbers(records)))
    reproduction.check(_numbers(records))
    return home / f"{budget}.json"


def _run(reproduction: Reproduction, cells: Sequence[Cell], home: Path, budget: str) -> list[CellRecord]:
    """Every cell's record, read from disk or made now; the summary is rewritten as they come."""
    done: list[CellRecord] = []
    bar = tqdm(cells, desc=f"{reproduction.name} {budget}", unit="cell", disable=None)
    for cell in bar:
        bar.set_postfix_str(cell.name)
        path = home / budget / "cells" / f"{cell.name}.json"
        if path.exists():
            done.append(_read(path, cell))
        else:
            done.append(_make(cell, home / budget / "work" / cell.name, _numbers(done)))
            write_json(path, done[-1])
        write_json(home / f"{budget}.json", _summary(reproduction, budget, len(cells), done))
    return done


def _make(cell: Cell, folder: Path, results: Mapping[str, Mapping[str, Number]]) -> CellRecord:
    folder.mkdir(parents=True, exist_ok=True)
    with stopwatch() as elapsed:
        numbers = cell.work(Workspace(folder=folder, seed=cell.seed, steps=cell.steps, results=results))
    return CellRecord(cell=cell.name, seed=cell.seed, steps=cell.steps, wall_s=elapsed.wall_s, cpu_s=elapsed.cpu_s,
                      numbers=dict(numbers), made_by=provenance())  # fmt: skip


def _read(path: Path, cell: Cell) -> CellRecord:
    """The result on disk, which must be that of `cell`."""
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("numbers"), dict):
        raise FermoError(f"{path} is not the result of a cell; remove it to make it again")
    numbers = {name: from_json(Number, value, f"{path}: {name}") for name, value in data["numbers"].items()}
    try:
        record = CellRecord(**{**data, "numbers": numbers})
    except TypeError:
        raise FermoError(f"{path} is not the result of a cell; remove it to make it again") from None
    if (record.seed, record.steps) != (cell.seed, cell.steps):
        raise FermoError(f"{path} was made with seed {record.seed} and {record.steps} steps, now it is seed "
                         f"{cell.seed} and {cell.steps} steps; remove it to make it again")  # fmt: skip
    return record


def _numbers(records: Sequence[CellRecord]) -> dict[str, dict[str, Number]]:
    return {record.cell: record.numbers for record in records}


def _summary(reproduction: Reproduction, budget: str, total: int, done: Sequence[CellRecord]) -> dict[str, Any]:
    """What ``<budget>.json`` holds; cells made in one place share one entry of ``made_by``."""
    places: list[dict[str, Any]] = []
    cells = []
    for record in done:
        place = {key: record.made_by[key] for key in ("versions", "git", "machine")}
        if place not in places:
            places.append(place)
        cells.append({**plain(record), "made_by": places.index(place)})
    return {
        "name": reproduction.name,
        "title": reproduction.title,
        "budget": budget,
        "cells_total": total,
        "cells_done": len(done),
        "wall_s": sum(record.wall_s for record in done),
        "cpu_s": sum(record.cpu_s for record in done),
        "made_by": places,
        "cells": cells,
    }
