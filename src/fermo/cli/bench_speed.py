"""``fermo bench-speed``: how fast tasks step, beside the bare engine and beside peers."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fermo.cli.parsing import parse
from fermo.errors import FermoError, unknown_name


@dataclass(frozen=True, kw_only=True)
class BenchSpeedOptions:
    """Environment steps per second and per processor-second, and memory: contenders take turns in one run.

    Each contender has its own process, pinned to the same processors. A peer that is not installed is a line that
    says how to get it.

    Attributes:
        tasks: Names of tasks.
        num_envs: Numbers of worlds; each is a comparison of its own.
        threads: Processors to share; all that this process may use when 0.
        backend: The engine that fermo and its ceiling run on.
        device: Of the warp back end; the first CUDA device, or else the CPU, when omitted.
        contenders: Who takes part; all that know the task on this back end when omitted.
        peer_python: Pythons of other environments in which a peer is installed.
        rounds: Turns of each contender.
        seconds: Least length of a turn.
        json: Where the rounds go.
    """

    tasks: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
    num_envs: tuple[int, ...] = (64,)
    threads: int = 0
    backend: Literal["cpu", "warp"] = "cpu"
    device: str | None = None
    contenders: tuple[str, ...] = ()
    peer_python: tuple[Path, ...] = ()
    rounds: int = 7
    seconds: float = 0.5
    json: Path = Path("speed.json")

    def __post_init__(self) -> None:
        cores = len(os.sched_getaffinity(0))
        if not self.tasks:
            raise FermoError("name at least one task; fermo tasks lists them")
        if not self.num_envs or min(self.num_envs) < 1:
            raise FermoError(f"num_envs must be at least 1, got {' '.join(map(str, self.num_envs)) or 'none'}")
        if not 0 <= self.threads <= cores:
            raise FermoError(f"threads must be from 1 to the {cores} processors of this process, got {self.threads}")
        if self.rounds < 1 or self.seconds <= 0:
            raise FermoError(f"rounds and seconds must be positive, got {self.rounds} and {self.seconds:g}")


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(BenchSpeedOptions, "bench-speed", arguments)
    from fermo.benchmarks import results, runner, summary
    from fermo.benchmarks.cases import existing_device
    from fermo.benchmarks.contender import Case
    from fermo.benchmarks.worker_process import Python
    from fermo.envs.registry import task_id

    tasks = [task_id(name) for name in options.tasks]
    _check_contenders(options)
    device = existing_device(options.backend, options.device)
    threads = options.threads or len(os.sched_getaffinity(0))
    cases = [
        Case(task=task, num_envs=count, threads=threads, backend=options.backend, device=device)
        for task in tasks
        for count in options.num_envs
    ]
    pythons = tuple(Python.at(path) for path in (sys.executable, *options.peer_python))
    plan = runner.Plan(contenders=options.contenders, rounds=options.rounds, round_s=options.seconds, pythons=pythons)
    command = shlex.join(["fermo", "bench-speed", *arguments])
    measured = runner.measure(cases, plan, command, lambda line: print(line, file=sys.stderr, flush=True))
    results.save(options.json, measured)
    for comparison in measured.comparisons:
        print(summary.text_table(comparison), end="\n\n")
    print(summary.machine(measured))
    print(options.json)


def _check_contenders(options: BenchSpeedOptions) -> None:
    from fermo.benchmarks.registry import CONTENDERS

    for name in options.contenders:
        if name not in CONTENDERS:
            raise unknown_name("contender", name, CONTENDERS)
        if CONTENDERS[name].backend != options.backend:
            raise FermoError(f"{name} is compared with --backend {CONTENDERS[name].backend}, not {options.backend}")
