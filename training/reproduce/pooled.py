"""What several seeds say together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np

from fermo.training.reproduce.registry import Cell, Number, Results, Workspace
from fermo.training.statistics import bootstrap


def over_seeds(results: Results, name: str) -> dict[str, Number]:
    """Means over the cells ``NAME/seed=...`` of the numbers that all of them have, with bootstrap intervals."""
    seeds = [numbers for cell, numbers in results.items() if cell.startswith(f"{name}/seed=")]
    pooled = {}
    for key in (key for key in seeds[0] if all(key in numbers for numbers in seeds)):
        value, low, high = (float(each) for each in bootstrap(np.array([n[key].value for n in seeds]), seed=0))
        unit = seeds[0][key].unit
        pooled[key] = Number(value=value, low=low, high=high, unit=unit, trials=len(seeds))
    return pooled


def seeds_and_all(name: str, seeds: Iterable[int], work: Callable[[Workspace], Mapping[str, Number]],
                  pool: Callable[[Results, str], Mapping[str, Number]] = over_seeds) -> list[Cell]:  # fmt: skip
    """Cells ``NAME/seed=...`` that do the same work, and ``NAME/all``, which pools them.

    Args:
        name: Of what is repeated.
        seeds: Of the repetitions.
        work: What a seed's cell does.
        pool: Called with all results and `name`.
    """
    cells = [Cell(name=f"{name}/seed={seed}", seed=seed, steps=0, work=work) for seed in seeds]
    return [*cells, Cell(name=f"{name}/all", seed=0, steps=0, work=lambda work: pool(work.results, name))]
