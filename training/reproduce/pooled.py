"""What several seeds say together."""

from __future__ import annotations

import numpy as np

from fermo.training.reproduce.registry import Number, Results
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
