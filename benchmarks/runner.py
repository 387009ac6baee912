"""Runs contenders side by side: each in its own process on the same processors, taking turns in short rounds."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fermo.benchmarks.cases import fill_in
from fermo.benchmarks.contender import Case
from fermo.benchmarks.registry import CONTENDERS, who_knows
from fermo.benchmarks.results import FORMAT, Comparison, Results, Round, Row
from fermo.benchmarks.worker_process import AbsentError, Python, WorkerProcess, python_for
from fermo.training.provenance import provenance


class TakesTurns(Protocol):
    """What `take_turns` needs of a worker."""

    def round(self, seconds: float) -> Round:
        """One turn."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How a comparison is run.

    Attributes:
        contenders: Names in the registry; all that know a case's task when empty.
        rounds: Turns of each.
        round_s: Least length of a turn [s].
        pythons: Interpreters in which contenders are looked for, in this order.
    """

    contenders: tuple[str, ...]
    rounds: int
    round_s: float
    pythons: tuple[Python, ...]


def measure(cases: Sequence[Case], plan: Plan, command: str, tell: Callable[[str], None]) -> Results:
    """Compare on every case; `command` is what was typed, `tell` hears what is going on."""
    made = provenance()
    comparisons = tuple(compare(case, plan, tell) for case in cases)
    git, machine = made["git"], made["machine"]
    return Results(
        format=FORMAT, command=command, started=made["started"], cpu=machine["cpu"], cores=machine["cores"],
        memory_gib=machine["memory_gib"], gpus=tuple(machine["gpus"]),
        commit=git["commit"] + "+" * git["edited"] if git else "",
        versions=plan.pythons[0].versions, round_s=plan.round_s, comparisons=comparisons,
    )  # fmt: skip


def compare(case: Case, plan: Plan, tell: Callable[[str], None]) -> Comparison:
    """Start all contenders of one case, let them take turns, and end them."""
    names = plan.contenders or who_knows(case.task, case.backend)
    cpus = sorted(os.sched_getaffinity(0))[: case.threads]
    load_before = os.getloadavg()[0]
    rows: dict[str, Row] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fermo-bench-speed-")))
        case, physics = fill_in(case, folder)
        workers: dict[str, WorkerProcess] = {}
        for name in names:
            entry = CONTENDERS[name]
            tell(f"{case.task}, {case.num_envs} worlds: {entry.label} starts")
            try:
                python = python_for(entry, plan.pythons)
                workers[name] = stack.enter_context(closing(WorkerProcess(entry, case, python, folder, cpus)))
            except AbsentError as why:
                rows[name] = Row(contender=name, label=entry.label, absent=str(why))
        tell(f"{case.task}, {case.num_envs} worlds: {plan.rounds} rounds of {len(workers)} contenders")
        turns = take_turns(workers, plan.rounds, plan.round_s)
        for name, worker in workers.items():
            rows[name] = _row(name, worker, turns[name], python_for(CONTENDERS[name], plan.pythons))
    return Comparison(
        task=case.task, num_envs=case.num_envs, threads=case.threads, backend=case.backend, device=case.device,
        physics=physics, rows=tuple(rows[name] for name in names), load_before=load_before,
        load_after=os.getloadavg()[0],
    )  # fmt: skip


def take_turns(workers: dict[str, TakesTurns] | dict[str, WorkerProcess], rounds: int,
               seconds: float) -> dict[str, tuple[Round, ...] | str]:  # fmt: skip
    """Let each worker run once a round; who begins moves on by one each round, so that nobody always follows the same.

    Returns:
        For each worker its rounds, or why it fell out.
    """
    names, done, fallen = list(workers), {name: [] for name in workers}, {}
    for index in range(rounds):
        first = index % len(names) if names else 0
        for name in names[first:] + names[:first]:
            if name in fallen:
                continue
            try:
                done[name].append(workers[name].round(seconds))
            except AbsentError as why:
                fallen[name] = str(why)
    return {name: fallen.get(name) or tuple(done[name]) for name in names}


def _row(name: str, worker: WorkerProcess, turns: tuple[Round, ...] | str, python: Python) -> Row:
    label = CONTENDERS[name].label
    if isinstance(turns, str):
        return Row(contender=name, label=label, absent=turns)
    try:
        grown, peak = worker.memory()
    except AbsentError as why:
        return Row(contender=name, label=label, absent=str(why))
    return Row(contender=name, label=label, note=worker.note, num_envs=worker.num_envs, rounds=turns,
               grown_bytes=grown, peak_bytes=peak, versions=python.versions)  # fmt: skip
