"""``fermo bench``: a checkpoint, or two side by side, under a grid of perturbations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fermo.cli.eval import load_pair
from fermo.cli.parsing import existing_checkpoint, parse
from fermo.errors import FermoError, unknown_name


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Success against severity, one perturbation after another.

    Attributes:
        checkpoint: Folder written by training.
        against: Another checkpoint of the same task, on the same starts.
        only: Perturbations to try; all of the task's grid when omitted.
        worlds: Episodes a cell.
        json: Where the counts go.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    against: Path | None = None
    only: tuple[str, ...] = ()
    worlds: int = 64
    json: Path = Path("robustness.json")

    def __post_init__(self) -> None:
        if self.worlds < 1:
            raise FermoError(f"worlds must be at least 1, got {self.worlds}")


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(BenchOptions, "bench", arguments)
    for folder in filter(None, (options.checkpoint, options.against)):
        existing_checkpoint(folder)
    from fermo.policies.one_step import OneStepPolicy
    from fermo.training.bench.grid import GRIDS, run_grid
    from fermo.training.files import write_json

    task, policy = load_pair(options.checkpoint, None)
    loaded = {"checkpoint": policy}
    if options.against:
        loaded["against"] = load_pair(options.against, task.name)[1]
    policies = {}
    for key, each in loaded.items():
        if not isinstance(each, OneStepPolicy):
            raise FermoError(f"the grid attacks maps from one observation to one action; {each.family} is none")
        policies[key] = (each.family, each)
    if task.name not in GRIDS:
        raise unknown_name("task with a perturbation grid", task.name, GRIDS)
    axes = GRIDS[task.name]
    for name in options.only:
        if name not in [axis.kind for axis in axes]:
            raise unknown_name("perturbation of the grid", name, [axis.kind for axis in axes])
    chosen = tuple(axis for axis in axes if not options.only or axis.kind in options.only)
    robustness = run_grid(task, policies, chosen, worlds=options.worlds)
    for curve in robustness.curves:
        print(f"{curve.title} [{curve.unit}]  " + "  ".join(f"{value:g}" for value in curve.severities))
        for series in curve.series:
            rates = "  ".join(f"{s / n:.0%}" for s, n in zip(series.successes, series.trials, strict=True))
            print(f"    {series.policy} ({series.label}{', random noise' if series.random else ''})  {rates}")
    write_json(options.json, robustness)
    print(options.json)
