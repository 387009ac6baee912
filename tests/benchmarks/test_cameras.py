"""Cameras are timed as they are used, and every contender gives a line."""

from __future__ import annotations

import pytest

from fermo.benchmarks.cameras import CameraOptions, measure, table
from fermo.errors import FermoError


def test_every_contender_makes_pictures() -> None:
    options = CameraOptions(tasks=("InvertedPendulum",), num_envs=(3,), threads=(1, 2), size=5, rounds=2, seconds=0.01)
    rows = measure(options)
    ours = [row for row in rows if row.contender.startswith("fermo, cpu")]
    assert [(row.picture, row.contender) for row in ours] == [
        (picture, f"fermo, cpu, {threads}") for picture in ("depth", "rgb") for threads in ("1 thread", "2 threads")
    ]
    assert all(row.num_envs == 3 and len(row.wall_rates) == 2 and min(row.wall_rates) > 0 for row in rows)
    assert all(min(row.cpu_rates) > 0 for row in rows)
    lines = table(rows).splitlines()
    assert len(lines) == len(rows) + 1
    assert "fermo, cpu, 2 threads" in lines[2]


@pytest.mark.parametrize("wrong", [{"num_envs": (0,)}, {"threads": ()}, {"rounds": 0}, {"seconds": 0.0}])
def test_sizes_are_positive(wrong: dict) -> None:
    with pytest.raises(FermoError, match="positive"):
        CameraOptions(**wrong)
