"""Turns, processes and what they measure, run for real but briefly."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fermo.benchmarks import process_tree, registry, results
from fermo.benchmarks.cases import fill_in
from fermo.benchmarks.contender import Case
from fermo.benchmarks.registry import CONTENDERS, Entry, who_knows
from fermo.benchmarks.results import Round
from fermo.benchmarks.runner import Plan, compare, take_turns
from fermo.benchmarks.worker import run_round
from fermo.benchmarks.worker_process import AbsentError, Python, WorkerProcess, python_for
from fermo.cli import main

CASE = Case(task="fermo/HalfCheetah-v5", num_envs=3, threads=1)


class Diary:
    """Writes down whose turn it was; `fails_at` is the turn it does not survive."""

    def __init__(self, name: str, book: list[str], fails_at: int = -1) -> None:
        self.name, self.book, self.fails_at = name, book, fails_at

    def round(self, seconds: float) -> Round:
        if sum(entry == self.name for entry in self.book) == self.fails_at:
            raise AbsentError("gone")
        self.book.append(self.name)
        return Round(env_steps=1, wall_s=seconds, cpu_s=0.0)


def test_turns_alternate_and_everybody_begins_once() -> None:
    book: list[str] = []
    turns = take_turns({name: Diary(name, book) for name in "abc"}, rounds=3, seconds=0.1)
    assert "".join(book) == "abc" + "bca" + "cab"
    assert {name: len(done) for name, done in turns.items()} == {"a": 3, "b": 3, "c": 3}


def test_who_falls_out_does_not_stop_the_others() -> None:
    book: list[str] = []
    turns = take_turns({"a": Diary("a", book), "b": Diary("b", book, fails_at=1)}, rounds=3, seconds=0.1)
    assert turns["b"] == "gone"
    assert len(turns["a"]) == 3


def test_nobody_is_no_error() -> None:
    assert take_turns({}, rounds=3, seconds=0.1) == {}


def test_a_round_counts_every_world_of_every_call() -> None:
    class Counter:
        calls = 0

        def step(self) -> None:
            self.calls += 1

        def finish(self) -> None:
            self.finished = True

    counter = Counter()
    done = run_round(counter, worlds=5, seconds=0.01)  # type: ignore[arg-type]
    assert done["env_steps"] == 5 * counter.calls
    assert done["wall_s"] >= 0.01
    assert counter.finished


def test_processor_time_and_memory_include_children() -> None:
    code = "data = bytearray(30_000_000)\nprint(flush=True)\nwhile True: pass"
    before = process_tree.cpu_seconds()
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert child.stdout
        child.stdout.readline()
        assert child.pid in process_tree.members()
        while process_tree.cpu_seconds(child.pid) < 0.05:
            time.sleep(0.01)
        assert process_tree.cpu_seconds() - before >= 0.05
        assert 30_000_000 < process_tree.data_bytes(child.pid) <= process_tree.peak_resident_bytes(child.pid)
        assert process_tree.peak_resident_bytes(child.pid) > 30_000_000
    finally:
        child.kill()
        child.communicate()


def test_a_package_that_is_missing_says_how_to_get_it() -> None:
    here = Python.at(sys.executable)
    python_for(CONTENDERS["fermo"], [here])
    entry = Entry(label="x", target="x:X", backend="cpu", requires=("no_such_package",), install="pip install x")
    with pytest.raises(AbsentError, match="not installed: pip install x"):
        python_for(entry, [here])


def test_a_contender_that_breaks_is_a_row_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Entry(label="broken", target="fermo.benchmarks.contender:NoSuchClass", backend="cpu",
                   requires=("json",), install="")  # fmt: skip
    missing = Entry(label="missing", target="x:X", backend="cpu", requires=("no_such_package",), install="buy it")
    monkeypatch.setattr(registry, "CONTENDERS", CONTENDERS)
    monkeypatch.setitem(CONTENDERS, "broken", broken)
    monkeypatch.setitem(CONTENDERS, "missing", missing)
    python = Python(path=sys.executable, modules=frozenset({"json"}), versions=())
    plan = Plan(contenders=("broken", "missing"), rounds=1, round_s=0.01, pythons=(python,))
    comparison = compare(CASE, plan, lambda line: None)
    assert "it failed: AttributeError" in comparison.row("broken").absent
    assert comparison.row("missing").absent == "not installed: buy it"


def test_a_worker_is_pinned_and_ends(tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    worker = WorkerProcess(CONTENDERS["raw"], fill_in(CASE, tmp_path)[0], Python.at(sys.executable), tmp_path, [cpu])
    process = worker._process.pid
    try:
        assert os.sched_getaffinity(process) == {cpu}
        assert worker.num_envs == 3
        turn = worker.round(0.01)
        assert turn.env_steps % 3 == 0
    finally:
        worker.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_a_python_of_another_place_needs_no_fermo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a peer's environment: only the standard library is there, and the answer is what it has."""
    monkeypatch.chdir(tmp_path)
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E "$@"\n')
    bare.chmod(0o755)
    found = Python.at(Path("./python"))
    assert found.path == str(bare)
    assert found.modules.isdisjoint({"envpool", "torch"})
    assert found.versions[0].startswith("python 3.")


def test_two_contenders_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "speed.json"
    main(["bench-speed", "HalfCheetah", "--num-envs", "2", "--contenders", "fermo", "raw", "--rounds", "2",
          "--seconds", "0.02", "--json", str(file)])  # fmt: skip
    text = capsys.readouterr().out
    assert "mujoco.batch alone" in text
    (comparison,) = results.load(file).comparisons
    assert [row.contender for row in comparison.rows] == ["fermo", "raw"]
    assert all(len(row.rounds) == 2 and row.num_envs == 2 for row in comparison.rows)
    assert "5 substeps of 0.01 s, integrator euler" in comparison.physics


def test_contenders_are_those_that_have_the_task() -> None:
    assert {"fermo", "raw", "envpool", "sb3-subproc"} <= set(who_knows("fermo/Ant-v5", "cpu"))
    assert set(who_knows("fermo/Robosuite-Lift-v0", "cpu")) == {"fermo", "raw", "robosuite", "robosuite-raw"}
    assert set(who_knows("fermo/SO101-PickCube-v0", "warp")) == {"fermo-warp", "raw-warp"}


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, entry in CONTENDERS.items() if entry.backend == "cpu"])
def test_every_contender_that_is_installed_steps(name: str, tmp_path: Path) -> None:
    entry = CONTENDERS[name]
    python = Python.at(sys.executable)
    if not set(entry.requires) <= python.modules:
        pytest.skip(f"not installed: {entry.install}")
    task = "fermo/Robosuite-Lift-v0" if entry.family == "robosuite" else CASE.task
    case, _ = fill_in(Case(task=task, num_envs=2, threads=1), tmp_path)
    worker = WorkerProcess(entry, case, python, tmp_path, [0])
    try:
        assert worker.round(0.05).env_steps >= worker.num_envs >= 1
    finally:
        worker.close()
