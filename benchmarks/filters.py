"""How long a safety filter thinks: fermo's beside other solvers of the same programs, taking turns.

``python -m fermo.benchmarks.filters --json benchmarks/results/filters.json``
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import tyro

from fermo.benchmarks.filter_results import FilterResults, FilterRow
from fermo.benchmarks.filter_solvers import PACKAGES, SOLVERS, Absent
from fermo.controllers.barriers import JointHalfSpaces
from fermo.controllers.quadratic_program import UNBOUNDED, QuadraticProgram, is_optimal, solve
from fermo.controllers.safety_filter import SafetyFilter, stand_still
from fermo.errors import FermoError

OURS = "fermo: rows, program, check"
_PERIOD, _SPEED, _RANGE = 0.01, 4.0, 2.6  # s, rad/s, rad
_TURN, _WARM_UP = 100, 5  # programs


@dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """Processor time of one call from Python, for an arm that walks at random among its limits.

    Attributes:
        joints: Of the arm.
        rows: Of each program: limits of every joint on both sides, the rest half-spaces that couple joints.
        problems: How many, each a period after the one before.
        json: Where the rows go.
    """

    joints: int = 7
    rows: int = 24
    problems: int = 2000
    json: Path = Path("filters.json")

    def __post_init__(self) -> None:
        if self.joints < 1 or self.rows < 2 * self.joints or self.problems < 1:
            raise FermoError("joints and problems start at 1, and rows at two a joint")


@dataclass(frozen=True)
class Moment:
    """A program, and the command and measurement that it comes from."""

    program: QuadraticProgram
    wanted: torch.Tensor
    state: dict[str, torch.Tensor]


def walk(options: FilterOptions) -> tuple[SafetyFilter, list[Moment]]:
    """An arm that is sent about at random and filtered, period by period."""
    random, n, m = np.random.default_rng(0), options.joints, options.rows
    coupled = random.standard_normal((m - 2 * n, n))
    normals = np.vstack([np.eye(n), -np.eye(n), coupled / np.linalg.norm(coupled, axis=1, keepdims=True)])
    barrier = JointHalfSpaces(
        normals, np.full(m, -_RANGE), [str(row) for row in range(m)], period=_PERIOD, gamma=0.1, error=1e-3
    )
    speed = np.full(n, _SPEED)
    safety = SafetyFilter([barrier], -speed, speed, stand_still)
    q, wanted, moments = np.zeros((1, n)), np.zeros((1, n)), []
    for _ in range(options.problems):
        wanted = 0.97 * wanted + random.standard_normal((1, n))
        rows, bounds = (part[0] for part in barrier.rows({"joint_position": q}, wanted))
        program = QuadraticProgram(
            weight=np.ones(n), target=wanted[0], rows=rows.copy(), low=np.concatenate([-speed, bounds]),
            high=np.concatenate([speed, np.full(m, UNBOUNDED)]),
        )  # fmt: skip
        state = {"joint_position": torch.from_numpy(q)}
        moments.append(Moment(program, torch.from_numpy(wanted), state))
        q = q + _PERIOD * safety.command(moments[-1].wanted, state).numpy()
    return safety, moments


def measure(options: FilterOptions) -> tuple[tuple[FilterRow, ...], float]:
    """Every contender on every program, in turns; and the share of unsafe commands."""
    safety, moments = walk(options)
    calls: dict[str, Callable[[Moment], np.ndarray]] = {
        OURS: lambda moment: safety.command(moment.wanted, moment.state)[0].numpy(),
        "fermo: program, check": _checked,
    }
    absent = []
    for name, make in SOLVERS.items():
        made = make(moments[0].program)
        if isinstance(made, Absent):
            absent.append(FilterRow(contender=name, absent=made.why))
        else:
            calls[name] = lambda moment, call=made: call(moment.program)
    times, errors = _take_turns(calls, moments)
    rows = [_row(name, np.array(times[name]), errors[name]) for name in calls]
    unsafe = np.mean([(m.program.rows @ m.program.target < m.program.low[options.joints :]).any() for m in moments])
    return (*rows, *absent), float(unsafe)


def _take_turns(
    calls: dict[str, Callable[[Moment], np.ndarray]], moments: list[Moment]
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Processor time of every call [us] and the largest error of each contender; the first calls of a turn warm up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    errors = dict.fromkeys(calls, 0.0)
    gc.disable()  # a collection would fall on whoever is running
    try:
        for start in range(0, len(moments), _TURN):
            turn = moments[start : start + _TURN]
            for name, call in calls.items():
                for moment in turn[:_WARM_UP]:
                    call(moment)
                for moment in turn:
                    began = time.thread_time_ns()
                    answer = call(moment)
                    times[name].append((time.thread_time_ns() - began) / 1e3)
                    errors[name] = max(errors[name], float(np.abs(answer - _checked(moment)).max()))
    finally:
        gc.enable()
    return times, errors


def _checked(moment: Moment) -> np.ndarray:
    solution = solve(moment.program)
    if not is_optimal(moment.program, solution):
        raise FermoError("a program of the benchmark was not solved: its numbers would mean nothing")
    return solution.x


def _row(name: str, microseconds: np.ndarray, error: float) -> FilterRow:
    median, p99, largest = (float(value) for value in np.percentile(microseconds, [50, 99, 100]))
    return FilterRow(contender=name, median_us=median, p99_us=p99, max_us=largest, error=error)


def table(rows: tuple[FilterRow, ...]) -> str:
    """A line a contender."""
    lines = [f"{'contender':<32}{'median us':>10}{'p99 us':>10}{'max us':>10}{'error':>10}"]
    lines += [
        f"{row.contender:<32}{row.absent}"
        if row.absent
        else f"{row.contender:<32}{row.median_us:10.1f}{row.p99_us:10.1f}{row.max_us:10.1f}{row.error:10.1e}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    from fermo.training.files import write_json
    from fermo.training.provenance import provenance

    options = tyro.cli(FilterOptions)
    torch.set_num_threads(1)
    made, before = provenance(), os.getloadavg()[0]
    rows, unsafe = measure(options)
    machine = made["machine"]
    results = FilterResults(
        command=f"python -m fermo.benchmarks.{made['command'].replace('.py', '', 1)}", started=made["started"],
        machine=f"{machine['cpu']}, {machine['cores']} cores",
        versions=tuple(f"{name} {version(name)}" for name in ("numpy", *PACKAGES) if find_spec(name)),
        load=(before, os.getloadavg()[0]), joints=options.joints, rows=options.rows, problems=options.problems,
        unsafe=unsafe, filters=rows,
    )  # fmt: skip
    print(table(rows))
    write_json(options.json, results)


if __name__ == "__main__":
    main()
