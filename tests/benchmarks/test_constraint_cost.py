"""A constraint's cost is the ratio of turns that stand side by side."""

from __future__ import annotations

import pytest

from fermo.benchmarks.constraint_cost import CONTENDERS, FREE, CostOptions, CostRow, measure, ratios, table
from fermo.errors import FermoError


def test_every_construction_trains_and_acts() -> None:
    options = CostOptions(widths=(8,), batches=(4,), worlds=(1, 3), rounds=2, seconds=0.001)
    rows = measure(options)
    assert [(row.work, row.batch, row.contender) for row in rows] == [
        (work, batch, name)
        for work, batch in (("training step", 4), ("action", 1), ("action", 3))
        for name in CONTENDERS
    ]
    assert all(len(row.seconds) == 2 and min(row.seconds) > 0 for row in rows)
    assert len(table(tuple(rows)).splitlines()) == 1 + 3 * (len(CONTENDERS) - 1)


def test_the_ratio_is_to_the_free_perceptron_of_the_same_size_and_round() -> None:
    times = {8: (1.0, 2.0, 3.0), 16: (10.0, 10.0, 10.0)}
    rows = tuple(
        CostRow(work="action", contender=name, width=width, batch=1, seconds=tuple(factor * s for s in seconds))
        for width, seconds in times.items() for name, factor in ((FREE, 1.0), ("cayley", 1.5))
    )  # fmt: skip
    assert [(row.width, ratio.value) for row, ratio in ratios(rows)] == [(8, 1.5), (16, 1.5)]


@pytest.mark.parametrize("wrong", [{"widths": ()}, {"batches": (0,)}, {"rounds": 0}, {"seconds": 0.0}])
def test_sizes_are_positive(wrong: dict) -> None:
    with pytest.raises(FermoError, match="positive"):
        CostOptions(**wrong)
