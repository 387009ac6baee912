"""Filters are timed on programs that all contenders solve, and the page shows them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fermo.benchmarks import page
from fermo.benchmarks.filter_results import FilterResults
from fermo.benchmarks.filter_solvers import SOLVERS, Absent
from fermo.benchmarks.filters import OURS, FilterOptions, measure, table, walk
from fermo.controllers.quadratic_program import solve
from fermo.errors import FermoError
from fermo.training.files import write_json


def test_every_contender_solves_the_same_programs_and_gives_a_line(tmp_path: Path) -> None:
    options = FilterOptions(joints=3, rows=9, problems=400)
    rows, unsafe = measure(options)
    ran = [row for row in rows if not row.absent]
    assert {row.contender for row in rows} == {OURS, "fermo: program, check", *SOLVERS}
    assert {OURS, "fermo: program, check", "DAQP, unchecked", "cvxpy, re-solved by OSQP"} <= {r.contender for r in ran}
    assert all(0 < row.median_us <= row.p99_us <= row.max_us for row in ran)
    assert next(row for row in ran if row.contender == OURS).error < 1e-9
    assert 0.05 < unsafe <= 1.0
    assert len(table(rows).splitlines()) == len(rows) + 1
    whole = FilterResults(
        command="python -m fermo.benchmarks.filters", started="2026-01-01", machine="a cpu", versions=("daqp 0",),
        load=(0.0, 1.0), joints=3, rows=9, problems=60, unsafe=unsafe, filters=rows,
    )  # fmt: skip
    write_json(tmp_path / "filters.json", whole)
    text = page.markdown(tmp_path)
    assert "`python -m fermo.benchmarks.filters`" in text and f"| {OURS} | " in text


@pytest.mark.parametrize("name", SOLVERS)
def test_a_solver_follows_programs_whose_rows_change(name: str) -> None:
    _, moments = walk(FilterOptions(joints=3, rows=9, problems=400))
    moments = moments[-30:]
    call = SOLVERS[name](moments[0].program)
    if isinstance(call, Absent):
        pytest.skip(call.why)
    for index, moment in enumerate(moments):
        program = moment.program
        turn = np.linalg.qr(np.eye(3) + 0.05 * index * np.ones((3, 3)))[0]
        program.rows[:] = program.rows @ turn
        np.testing.assert_allclose(call(program), solve(program).x, atol=2e-3)


@pytest.mark.parametrize("wrong", [{"joints": 0}, {"rows": 13}, {"problems": 0}])
def test_sizes_are_positive(wrong: dict) -> None:
    with pytest.raises(FermoError, match="start at 1"):
        FilterOptions(**wrong)
