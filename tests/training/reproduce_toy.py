"""A toy reproduction: pi from random points, over seeds, then their mean; it notes each cell it really works on."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np

from fermo.errors import FermoError
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace

SEEDS = 3
POINTS = {Budget.SMOKE: 1000, Budget.SMALL: 20_000, Budget.PAPER: 1_000_000}


def estimate(work: Workspace) -> dict[str, Number]:
    note(work, f"seed={work.seed}")
    if os.environ.get("TOY_HANGS_AT") == str(work.seed):
        (work.folder / "half").write_text("begun")
        time.sleep(60)
    points = np.random.default_rng(work.seed).random((work.steps, 2))
    inside = Number.rate(int((np.square(points).sum(axis=1) < 1).sum()), work.steps)
    return {"share": inside, "time": Number(value=0.5, unit="s")}


def mean(work: Workspace) -> dict[str, Number]:
    note(work, "mean")
    shares = [numbers["share"] for numbers in work.results.values()]
    total = sum(share.trials or 0 for share in shares)
    share = Number.rate(round(sum(share.value * (share.trials or 0) for share in shares)), total)
    return {"pi": Number(value=4 * share.value, low=4 * (share.low or 0), high=4 * (share.high or 0), trials=total)}


def note(work: Workspace, words: str) -> None:
    with log_of(work.folder).open("a") as log:
        log.write(words + "\n")


def log_of(folder: Path) -> Path:
    return next(parent for parent in folder.parents if parent.name == "toy-pi").parent / "log.txt"


def cells(budget: Budget) -> list[Cell]:
    runs = [Cell(name=f"points/seed={seed}", seed=seed, steps=POINTS[budget], work=estimate) for seed in range(SEEDS)]
    return [*runs, Cell(name="mean", seed=0, steps=0, work=mean)]


def check(results: Results) -> None:
    pi = results["mean"]["pi"]
    if not (pi.low or 0) < 3.1416 < (pi.high or 0):
        raise FermoError(f"pi came out as {pi.value}")


TOY = Reproduction(
    name="toy-pi",
    title="Pi from random points",
    cells=cells,
    rows=(
        Row(cell="mean", number="pi", label="pi", published="3.1416", source="Archimedes, | proposition 3"),
        Row(cell="points/seed=0", number="time", label="time of seed 0"),
        Row(cell="points/seed=9", number="share", label="never run"),
    ),
    check=check,
)
