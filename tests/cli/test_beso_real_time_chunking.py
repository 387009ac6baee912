"""What the comparison of chunking modes must show, and that its tables ask for numbers that it makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fermo.cli.reproductions.beso_real_time_chunking import BESO_REAL_TIME_CHUNKING as CHUNKING
from fermo.errors import FermoError
from fermo.training.reproduce.registry import Budget, Number

RESULTS = Path(__file__).parents[2] / "reproductions" / "beso-real-time-chunking"


def results(**changes: float) -> dict[str, dict[str, Number]]:
    values = {"first loss": 1.0, "last loss": 0.1, "real-time/jerk": 1.0, "naive/jerk": 2.0, "synchronous/holds": 5.0}
    numbers = {name: Number(value=value) for name, value in (values | changes).items()}
    trained = {name: number for name, number in numbers.items() if name.endswith("loss")}
    return {"train": trained, "delay=200ms": {name: numbers[name] for name in numbers if name not in trained}}


def test_the_check_passes_what_the_comparison_claims_and_nothing_else() -> None:
    CHUNKING.check(results())
    for changes, problem in (
        ({"last loss": 1.0}, "loss did not fall"),
        ({"real-time/jerk": 2.0}, "no smoother in delay=200ms: 2 against 2"),
        ({"synchronous/holds": 0.0}, "did not reach the robot"),
    ):
        with pytest.raises(FermoError, match=problem):
            CHUNKING.check(results(**changes))


def test_every_row_is_of_a_cell_of_the_largest_budget_and_smaller_budgets_have_no_other_cells() -> None:
    largest, *smaller = ({cell.name for cell in CHUNKING.cells(budget)} for budget in reversed(Budget))
    assert {row.cell for row in CHUNKING.rows} == largest
    assert all(cells <= largest for cells in smaller)


@pytest.mark.parametrize("budget", ["smoke", "small"])
def test_rows_name_numbers_that_were_measured(budget: str) -> None:
    cells = {cell["cell"]: cell["numbers"] for cell in json.loads((RESULTS / f"{budget}.json").read_text())["cells"]}
    assert {row.cell for row in CHUNKING.rows} & set(cells)
    assert all(row.number in cells[row.cell] for row in CHUNKING.rows if row.cell in cells)
