"""How long a diffusion policy thinks: fermo's beside other implementations, taking turns.

``python -m fermo.benchmarks.policy_latency --json benchmarks/results/policy-latency.json``
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import torch
import tyro

from fermo.benchmarks.latency_contenders import CONTENDERS, FERMO, ON_GPUS, SIZES, Bout, Contender
from fermo.benchmarks.results import paired_ratio
from fermo.errors import FermoError, unknown_name
from fermo.training.statistics import Interval

PACKAGES = ("torch", "diffusers", "lerobot")
_SLOW, _COMPILING = "one answer took", 5  # how much longer than its patience one waits for a first answer


@dataclass(frozen=True, kw_only=True)
class LatencyOptions:
    """Time of one answer to a batch of observations, at each number of network evaluations.

    Attributes:
        sizes: Benchmarks of BESO whose presets give the network's size.
        batches: Observations answered at once.
        evaluations: Of the network, in an answer.
        contenders: Names; all when empty.
        device: ``cpu`` or ``cuda``.
        threads: Of torch, on the CPU.
        rounds: Turns of each contender; three at most where one answers for over a second.
        seconds: Least length of a turn.
        patience: A contender whose one answer takes longer is left out, of what is larger too [s].
        json: Where the rows go.
    """

    sizes: tuple[str, ...] = tuple(SIZES)
    batches: tuple[int, ...] = (1, 4096)
    evaluations: tuple[int, ...] = (1, 2, 3, 10)
    contenders: tuple[str, ...] = ()
    device: str = "cpu"
    threads: int = 2
    rounds: int = 7
    seconds: float = 0.5
    patience: float = 60.0
    json: Path = Path("policy-latency.json")

    def __post_init__(self) -> None:
        counts = (*self.batches, *self.evaluations, self.threads, self.rounds)
        if min(counts) < 1 or min(self.seconds, self.patience) <= 0:
            raise FermoError("batches, evaluations, threads, rounds, seconds and patience must be positive")
        for kind, names, known in (("size", self.sizes, SIZES), ("contender", self.contenders, CONTENDERS)):
            for name in names:
                if name not in known:
                    raise unknown_name(kind, name, known)


@dataclass(frozen=True, kw_only=True)
class LatencyRow:
    """One contender in one bout.

    Attributes:
        bout: Size, batch, evaluations, device.
        contender: Its name.
        absent: Why it did not run; empty when it did.
        parameters: Of its network.
        preparation_s: Until its first answer, compilation included [s].
        first_s: What an answer took before the turns began [s].
        calls: Answers in all.
        median_ms: Of all answers [ms].
        p99_ms: Their 99th percentile [ms].
        rounds_ms: Median of each turn [ms]; the k-th turns of all contenders stand side by side.
    """

    bout: Bout
    contender: str
    absent: str = ""
    parameters: int = 0
    preparation_s: float = 0.0
    first_s: float = 0.0
    calls: int = 0
    median_ms: float = 0.0
    p99_ms: float = 0.0
    rounds_ms: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PolicyLatency:
    """One run.

    Attributes:
        command: What was typed.
        started: Date and time, UTC.
        machine: Processor and cores, and the GPU if it ran there.
        threads: Of torch.
        versions: Of packages, ``"name version"``.
        commit: Of fermo's sources, empty outside a checkout; ``+`` after it where they were edited.
        load: Load average over a minute, before and after.
        latency_rows: One a contender and bout.
    """

    command: str
    started: str
    machine: str
    threads: int
    versions: tuple[str, ...]
    commit: str
    load: tuple[float, ...]
    latency_rows: tuple[LatencyRow, ...]


def measure(options: LatencyOptions) -> Iterator[LatencyRow]:
    """Every bout, contenders taking turns in it."""
    for size in options.sizes:
        gave_up: dict[str, str] = {}
        for batch in sorted(options.batches):
            for evaluations in sorted(options.evaluations):
                bout = Bout(size=size, batch=batch, evaluations=evaluations, device=options.device)
                rows = measure_bout(bout, options, gave_up)
                gave_up |= {row.contender: row.absent for row in rows if row.absent.startswith(_SLOW)}
                yield from rows


@torch.no_grad()
def measure_bout(bout: Bout, options: LatencyOptions, gave_up: Mapping[str, str] | None = None) -> list[LatencyRow]:
    """The contenders' turns in one bout, in an order that turns round: a neighbour may leave warm caches behind.

    Args:
        bout: What is asked for.
        options: How often.
        gave_up: Contenders that were too slow for less, and what is said of it.
    """
    rows, ready = [], {}
    for name in options.contenders or _all(bout.device):
        row, contender = _prepared(name, bout, options.patience, (gave_up or {}).get(name, ""))
        rows.append(row)
        if contender is not None:
            ready[name] = contender
    rounds = min(options.rounds, 3) if any(row.first_s > 1 for row in rows) else options.rounds
    times: dict[str, list[list[float]]] = {name: [] for name in ready}
    gc.disable()  # a collection would fall on whoever is running
    try:
        for turn in range(rounds):
            for name in list(ready)[:: 1 if turn % 2 else -1]:
                times[name].append(_times(ready[name].answer, bout.device, options.seconds))
            gc.collect()
    finally:
        gc.enable()
    return [row if row.absent else _filled(row, times[row.contender]) for row in rows]


def _all(device: str) -> list[str]:
    return [name for name in CONTENDERS if device != "cpu" or name not in ON_GPUS]


def _prepared(name: str, bout: Bout, patience: float, gave_up: str) -> tuple[LatencyRow, Contender | None]:
    """Ready to take its turns, with its first answers given: some compile at the first one."""
    row, start = LatencyRow(bout=bout, contender=name, absent=gave_up), time.perf_counter()
    if gave_up:
        return row, None
    try:
        contender = CONTENDERS[name](bout)
        first = _timed(contender.answer, bout.device)
    except FermoError as error:
        return replace(row, absent=str(error)), None
    preparation = time.perf_counter() - start
    if first < _COMPILING * patience:
        first = _timed(contender.answer, bout.device)
    if first > patience:
        return replace(row, absent=f"{_SLOW} {first:.0f} s"), None
    return replace(row, parameters=contender.parameters, preparation_s=preparation, first_s=first), contender


def _timed(answer: Callable[[], object], device: str) -> float:
    """Of one answer, until it is there [s]."""
    start = time.perf_counter()
    answer()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _times(answer: Callable[[], object], device: str, least: float) -> list[float]:
    warm = _timed(answer, device)  # what the others left in the caches is not its own
    times = [warm] if warm > least else []
    while sum(times) < least:
        times.append(_timed(answer, device))
    return times


def _filled(row: LatencyRow, turns: list[list[float]]) -> LatencyRow:
    every = 1e3 * np.concatenate([np.array(turn) for turn in turns])
    median, p99 = (float(value) for value in np.percentile(every, [50, 99]))
    rounds = tuple(1e3 * float(np.median(turn)) for turn in turns)
    return replace(row, calls=len(every), median_ms=median, p99_ms=p99, rounds_ms=rounds)


def ratios(rows: tuple[LatencyRow, ...]) -> Iterator[tuple[LatencyRow, Interval | None]]:
    """Every row with its time over that of fermo compiled, round by round; None where one of them is absent."""
    first = {row.bout: row for row in rows if row.contender == FERMO and not row.absent}
    for row in rows:
        beside = first.get(row.bout)
        if beside is None or row.absent:
            yield row, None
        else:
            yield row, paired_ratio(np.array(row.rounds_ms), np.array(beside.rounds_ms))


def table(rows: tuple[LatencyRow, ...]) -> str:
    """A line a contender and bout."""
    lines = [f"{'size':<12}{'batch':>6}{'NFE':>5}  {'contender':<34}{'median ms':>11}{'p99 ms':>10}{'x ours':>9}  95 %"]
    for row, ratio in ratios(rows):
        start = f"{row.bout.size:<12}{row.bout.batch:>6}{row.bout.evaluations:>5}  {row.contender:<34}"
        times = f"{row.median_ms:>11.3f}{row.p99_ms:>10.3f}"
        share = f"{ratio.value:>9.2f}  {ratio.low:.2f} to {ratio.high:.2f}" if ratio else ""
        lines.append(start + (row.absent or times + share))
    return "\n".join(lines)


def _versions() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue


def main() -> None:
    """Entry point."""
    from fermo.training.files import write_json
    from fermo.training.provenance import git_commit, provenance

    options = tyro.cli(LatencyOptions)
    torch.set_num_threads(options.threads)
    made, before, commit = provenance(), os.getloadavg()[0], git_commit()
    rows = []
    for row in measure(options):
        rows.append(row)
        print(table((row,)).splitlines()[1], flush=True)
    print(table(tuple(rows)))
    machine = made["machine"]
    places = [f"{machine['cpu']}, {machine['cores']} cores", *(machine["gpus"] if options.device != "cpu" else [])]
    write_json(options.json, PolicyLatency(
        command=f"python -m fermo.benchmarks.policy_latency {made['command'].partition(' ')[2]}".rstrip(),
        started=made["started"], machine=", ".join(places), threads=options.threads, versions=tuple(_versions()),
        commit=f"{commit['commit']}{'+' if commit['edited'] else ''}" if commit else "",
        load=(before, os.getloadavg()[0]), latency_rows=tuple(rows),
    ))  # fmt: skip


if __name__ == "__main__":
    main()
