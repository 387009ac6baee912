"""The page shows what the files hold, and nothing that was not measured."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from fermo.benchmarks import page, results
from fermo.benchmarks.constraint_cost import ConstraintCost, CostRow
from fermo.benchmarks.profile import Profile, Share
from fermo.benchmarks.results import FORMAT, Comparison, Results, Round, Row
from fermo.training.files import write_json


def _row(name: str, steps: int, grown: int) -> Row:
    rounds = tuple(Round(env_steps=steps + index, wall_s=1.0, cpu_s=2.0) for index in range(3))
    return Row(contender=name, label=f"<{name}>", rounds=rounds, num_envs=4, grown_bytes=grown)


def _results(*numbers: int) -> Results:
    comparisons = tuple(
        Comparison(task="fermo/Ant-v5", num_envs=number, threads=2, backend="cpu", device="cpu", physics="physics",
                   rows=(_row("fermo", 900, 8192), _row("raw", 1000, 0),
                         Row(contender="envpool", label="EnvPool", absent="not installed: buy it")),
                   load_before=0.0, load_after=1.0)
        for number in numbers
    )  # fmt: skip
    return Results(format=FORMAT, command="fermo bench-speed Ant", started="2026-01-01", cpu="a cpu", cores=2,
                   memory_gib=8.0, gpus=("a gpu",), commit="0123456789abcdef", versions=("mujoco 3.17.0",),
                   round_s=0.5, comparisons=comparisons)  # fmt: skip


def _drawings(text: str) -> list[ElementTree.Element]:
    """Every SVG of the page, which must be well-formed."""
    pieces = [piece.partition("</svg>")[0] for piece in text.split("<svg")[1:]]
    return [ElementTree.fromstring(f"<svg{piece}</svg>") for piece in pieces]


def test_without_files_it_says_so(tmp_path: Path) -> None:
    assert page.markdown(tmp_path) == "Nothing has been measured yet."


def test_numbers_stand_beside_the_command_that_made_them(tmp_path: Path) -> None:
    results.save(tmp_path / "speed.json", _results(64))
    text = page.markdown(tmp_path)
    assert "`fermo bench-speed Ant`" in text
    assert "### Ant-v5, N = 64, 2 threads" in text
    assert "901 (900 to 902)" in text  # the median of 900, 901, 902
    assert "fermo reaches 90%" in text
    assert "not installed: buy it" in text
    assert "&lt;fermo&gt;" in text
    (drawing,) = _drawings(text)
    assert len(drawing.findall("rect")) == 2


def test_what_a_constraint_costs_is_a_table(tmp_path: Path) -> None:
    rows = tuple(CostRow(work="action", contender=name, width=64, batch=1, seconds=(ms / 1e3,) * 3)
                 for name, ms in (("free", 2.0), ("cayley", 3.0)))  # fmt: skip
    cost = ConstraintCost(command="python cost", started="2026-01-01", cpu="a cpu", threads=1, torch="2.13", commit="",
                          load_before=0.0, load_after=0.5, constraint_rows=rows)  # fmt: skip
    write_json(tmp_path / "cost.json", cost)
    text = page.markdown(tmp_path)
    assert "`python cost`" in text
    assert "| action, cayley | 64 | 1 | 3.000 | 1.50 (1.50 to 1.50) |" in text


def test_growth_is_drawn_from_three_numbers_of_worlds_on(tmp_path: Path) -> None:
    results.save(tmp_path / "sweep.json", _results(1, 64, 4096))
    text = page.markdown(tmp_path)
    assert "Ant-v5 as N grows" in text
    assert "| 4096 | 1,109.88 | 999.00 |  |" in text  # 1e6 / 901 and 1e6 / 1001
    time, memory = _drawings(text)
    assert len(time.findall("polyline")) == 2
    assert len(memory.findall("polyline")) == 1  # nothing was counted for the bare engine


def test_a_profile_has_its_table(tmp_path: Path) -> None:
    stage = Share(stage="physics", seconds=0.001, share=1.0)
    found = Profile(task="fermo/Ant-v5", num_envs=4, backend="warp", device="cuda", steps=9, step_s=0.001,
                    bare_step_s=0.0009, stages=(stage,), physics=(stage,))  # fmt: skip
    write_json(tmp_path / "gpu/profile.json", found)
    text = page.markdown(tmp_path)
    assert "`fermo profile Ant-v5 --num-envs 4 --backend warp --steps 9`: 1.000 ms a step on cuda" in text
    assert "| physics | 1.0000 | 100.0% |" in text


@pytest.mark.parametrize("numbers", [(64,), (1, 2, 3)])
def test_a_contender_without_rounds_draws_nothing(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    empty = _results(*numbers)
    absent = tuple(dataclasses.replace(each, rows=each.rows[2:]) for each in empty.comparisons)
    results.save(tmp_path / "speed.json", dataclasses.replace(empty, comparisons=absent))
    assert _drawings(page.markdown(tmp_path)) == []
