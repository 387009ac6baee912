"""Reproductions do each cell once, also when killed in between, and say what they cost."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from fermo.errors import FermoError
from fermo.training.files import read_json, write_json
from fermo.training.reproduce.registry import Budget, Cell, Number, register
from fermo.training.reproduce.run import reproduce
from fermo.training.reproduce.table import markdown_table
from fermo.training.stopwatch import stopwatch
from tests.training.reproduce_toy import TOY

ALL = ["seed=0", "seed=1", "seed=2", "mean"]


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    monkeypatch.setattr("fermo.training.reproduce.registry.REPRODUCTIONS", {})
    register(TOY)


def log(folder: Path) -> list[str]:
    return (folder / "log.txt").read_text().split()


def test_every_number_has_seed_steps_times_versions_and_machine(tmp_path):
    path = reproduce("toy-pi", folder=tmp_path)
    assert path == tmp_path / "toy-pi" / "smoke.json"
    summary = read_json(path)
    assert (summary["cells_done"], summary["cells_total"], summary["budget"]) == (4, 4, "smoke")
    first = summary["cells"][0]
    assert (first["cell"], first["seed"], first["steps"]) == ("points/seed=0", 0, 1000)
    assert first["numbers"]["share"]["low"] < first["numbers"]["share"]["value"] < first["numbers"]["share"]["high"]
    assert first["wall_s"] > 0 and summary["wall_s"] == pytest.approx(sum(cell["wall_s"] for cell in summary["cells"]))
    assert summary["made_by"][first["made_by"]].keys() == {"versions", "git", "machine"}
    assert len(summary["made_by"]) == 1
    ElementTree.parse(path.with_suffix(".svg"))


def test_a_budget_begun_before_needs_resume_and_does_no_cell_twice(tmp_path):
    path = reproduce("toy-pi", folder=tmp_path)
    with pytest.raises(FermoError, match="--resume"):
        reproduce("toy-pi", folder=tmp_path)
    before = read_json(path)
    reproduce("toy-pi", folder=tmp_path, resume=True)
    assert log(tmp_path) == ALL
    assert read_json(path) == before
    (tmp_path / "toy-pi/smoke/cells/points/seed=1.json").unlink()
    reproduce("toy-pi", folder=tmp_path, resume=True)
    assert log(tmp_path) == [*ALL, "seed=1"]
    reproduce("toy-pi", budget="small", folder=tmp_path)
    assert read_json(tmp_path / "toy-pi/small.json")["cells"][0]["steps"] == 20_000


SCRIPT = """
import sys
from fermo.training.reproduce.registry import register
from fermo.training.reproduce.run import reproduce
from tests.training.reproduce_toy import TOY
register(TOY)
reproduce("toy-pi", folder=sys.argv[1])
"""


def test_killed_inside_a_cell_it_resumes_at_that_cell(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TOY_HANGS_AT": "2"},
    )
    half = tmp_path / "toy-pi/smoke/work/points/seed=2/half"
    while not half.exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    partial = read_json(tmp_path / "toy-pi/smoke.json")
    assert (partial["cells_done"], partial["cells_total"]) == (2, 4)
    reproduce("toy-pi", folder=tmp_path, resume=True)
    assert log(tmp_path) == ["seed=0", "seed=1", "seed=2", "seed=2", "mean"]
    whole = read_json(tmp_path / "toy-pi/smoke.json")
    assert whole["cells_done"] == 4 and whole["cells"][:2] == partial["cells"]
    assert half.exists()


def test_results_do_not_depend_on_being_interrupted(tmp_path):
    def numbers(folder: Path) -> list[dict]:
        return [cell["numbers"] for cell in read_json(folder / "toy-pi/smoke.json")["cells"]]

    reproduce("toy-pi", folder=tmp_path / "a")
    reproduce("toy-pi", folder=tmp_path / "b")
    (tmp_path / "b/toy-pi/smoke/cells/mean.json").unlink()
    reproduce("toy-pi", folder=tmp_path / "b", resume=True)
    assert numbers(tmp_path / "a") == numbers(tmp_path / "b")


def test_a_failed_check_is_raised_with_the_numbers_on_disk(tmp_path, monkeypatch):
    def fail(results):
        raise FermoError(f"pi is not {results['mean']['pi'].value}")

    monkeypatch.setattr("fermo.training.reproduce.registry.REPRODUCTIONS",
                        {"toy-pi": dataclasses.replace(TOY, check=fail)})  # fmt: skip
    with pytest.raises(FermoError, match="pi is not"):
        reproduce("toy-pi", folder=tmp_path)
    assert read_json(tmp_path / "toy-pi/smoke.json")["cells_done"] == 4


@pytest.mark.parametrize(("name", "budget", "says"), [
    ("toy-py", "smoke", "did you mean 'toy-pi'"), ("toy-pi", "smol", "unknown budget 'smol': did you mean"),
])  # fmt: skip
def test_unknown_names_suggest(tmp_path, name, budget, says):
    with pytest.raises(FermoError, match=says):
        reproduce(name, budget=budget, folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_name_is_registered_once():
    with pytest.raises(FermoError, match="registered already"):
        register(TOY)


def test_a_cell_made_otherwise_or_damaged_is_refused(tmp_path):
    reproduce("toy-pi", folder=tmp_path)
    path = tmp_path / "toy-pi/smoke/cells/points/seed=1.json"
    data = read_json(path)
    write_json(path, {**data, "seed": 7})
    with pytest.raises(FermoError, match="made with seed 7"):
        reproduce("toy-pi", folder=tmp_path, resume=True)
    path.write_text("{}")
    with pytest.raises(FermoError, match="not the result of a cell"):
        reproduce("toy-pi", folder=tmp_path, resume=True)


@pytest.mark.parametrize("name", ["../up", "/root", "a//b", "", "A"])
def test_cell_names_are_relative_paths(name):
    with pytest.raises(ValueError, match="cell name"):
        Cell(name=name, seed=0, steps=0, work=lambda work: {})


def test_table_holds_what_was_run_and_nothing_else(tmp_path):
    empty = markdown_table(TOY, tmp_path)
    assert "| pi | 3.1416 (Archimedes, &#124; proposition 3) |  |  |  |" in empty
    reproduce("toy-pi", folder=tmp_path)
    lines = markdown_table(TOY, tmp_path).splitlines()
    pi = read_json(tmp_path / "toy-pi/smoke.json")["cells"][3]["numbers"]["pi"]
    assert f"| {pi['value']:.3g} [{pi['low']:.3g}, {pi['high']:.3g}] |  |  |" in lines[2]
    assert lines[3] == "| time of seed 0 |  | 0.5 s |  |  |"
    assert lines[4] == "| never run |  |  |  |  |"
    assert lines[-1].startswith("`smoke`: 4 of 4 cells")
    assert {line.count("|") for line in lines[:5]} == {3 + len(Budget)}


def test_a_rate_carries_its_interval():
    rate = Number.rate(8, 10)
    assert (rate.value, rate.trials) == (0.8, 10)
    assert (rate.low, rate.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_stopwatch_counts_children():
    with stopwatch() as elapsed:
        subprocess.run([sys.executable, "-c", "sum(range(10**7))"], check=True)
    assert elapsed.cpu_s > 0 and elapsed.wall_s > 0
