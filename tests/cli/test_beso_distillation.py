"""What the table of a distilled student must show."""

from __future__ import annotations

import pytest

from fermo.cli.reproductions.beso_distillation import BESO_DISTILLATION
from fermo.errors import FermoError
from fermo.training.reproduce.registry import Number


def results(**changed: float) -> dict[str, dict[str, Number]]:
    """Of a whole training that worked."""
    data = {"random remaining": 1.0, "demonstrations": 1000.0}
    cell = {"teacher first loss": 1.0, "teacher last loss": 0.1, "teacher at 1/remaining": 0.5,
            "student at 1/remaining": 0.4}  # fmt: skip
    cell |= changed
    return {"data": {name: Number(value=value) for name, value in data.items()},
            "policies/seed=0": {name: Number(value=value) for name, value in cell.items()}}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("teacher last loss", 1.0, "teacher's loss did not fall"),
        ("student at 1/remaining", 1.0, "no nearer than random actions"),
        ("student at 1/remaining", 0.5, "no nearer in one step than its teacher"),
    ],
)
def test_a_table_is_refused_where_nothing_was_distilled(name: str, value: float, told: str) -> None:
    BESO_DISTILLATION.check(results())
    with pytest.raises(FermoError, match=told):
        BESO_DISTILLATION.check(results(**{name: value}))
