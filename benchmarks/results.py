"""What a comparison leaves behind, and the statistics of it: rounds are kept, medians and ratios follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fermo.errors import FermoError
from fermo.training.files import read_json, write_json
from fermo.training.records import from_json
from fermo.training.statistics import Interval, bootstrap

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Round:
    """One contender's turn.

    Attributes:
        env_steps: Environment steps made, over all worlds.
        wall_s: Wall time [s].
        cpu_s: User and system time of its processes [s].
    """

    env_steps: int
    wall_s: float
    cpu_s: float

    def __post_init__(self) -> None:
        if self.env_steps < 1 or self.wall_s <= 0 or self.cpu_s < 0:
            raise ValueError(f"a round makes steps and takes time, got {self}")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One contender in one comparison.

    Attributes:
        contender: Its name in the registry.
        label: For people.
        absent: Why it did not run; empty when it did.
        note: What a reader must know of how it ran.
        num_envs: Worlds it really ran.
        rounds: Its turns in order; the k-th turns of all contenders stand side by side.
        grown_bytes: Memory that its worlds took [B]; what its processes share is divided among them.
        peak_bytes: Largest resident sizes of its processes, added up [B].
        versions: Of the packages that can change its speed.
    """

    contender: str
    label: str
    absent: str = ""
    note: str = ""
    num_envs: int = 0
    rounds: tuple[Round, ...] = ()
    grown_bytes: int = 0
    peak_bytes: int = 0
    versions: tuple[str, ...] = ()

    @property
    def wall_rates(self) -> np.ndarray:
        """Environment steps per second of wall time, ``(rounds,)``."""
        return np.array([each.env_steps / each.wall_s for each in self.rounds])

    @property
    def cpu_rates(self) -> np.ndarray:
        """Environment steps per second of processor time, ``(rounds,)``; infinite where too short to be counted."""
        with np.errstate(divide="ignore"):
            return np.array([np.float64(each.env_steps) / each.cpu_s for each in self.rounds])


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Contenders that took turns on one task at one number of worlds.

    Attributes:
        task: Its name.
        num_envs: Worlds asked for; a row says how many it ran.
        threads: Processors shared by all.
        backend: ``"cpu"`` or ``"warp"``.
        device: Where the worlds of the warp back end live.
        physics: The settings every contender shares, for people.
        rows: One a contender.
        load_before: Load average of the machine over a minute, before.
        load_after: The same after.
    """

    task: str
    num_envs: int
    threads: int
    backend: str
    device: str
    physics: str
    rows: tuple[Row, ...]
    load_before: float
    load_after: float

    def row(self, contender: str) -> Row:
        """The row of `contender`."""
        return next(row for row in self.rows if row.contender == contender)


@dataclass(frozen=True, kw_only=True)
class Results:
    """One run of ``fermo bench-speed``.

    Attributes:
        format: Version of this layout.
        command: What was typed.
        started: Date and time, UTC.
        cpu: Processor.
        cores: Processors this process may use.
        memory_gib: Of the machine.
        gpus: Names of the CUDA devices.
        commit: Of fermo's sources, empty outside a checkout; ``+`` after it where they were edited.
        versions: Of Python and packages, ``"name version"``.
        round_s: Least length of a turn [s].
        comparisons: One a task and number of worlds.
    """

    format: int
    command: str
    started: str
    cpu: str
    cores: int
    memory_gib: float
    gpus: tuple[str, ...]
    commit: str
    versions: tuple[str, ...]
    round_s: float
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, kw_only=True)
class ShortTraining:
    """What came of a short training at full speed.

    Attributes:
        task: Its name.
        command: What was typed.
        started: Date and time, UTC.
        machine: Processor and GPUs.
        device: Where worlds and learner lived.
        num_envs: Worlds.
        rounds: Rollouts, each with an update, after a first that is not counted.
        env_steps: Environment steps in all.
        wall_s: Time of the rounds [s].
        env_steps_per_s: Environment steps in that time, learning included.
        mean_rewards: Mean reward of a step, round by round.
    """

    task: str
    command: str
    started: str
    machine: str
    device: str
    num_envs: int
    rounds: int
    env_steps: int
    wall_s: float
    env_steps_per_s: float
    mean_rewards: tuple[float, ...]


def median(rates: np.ndarray) -> Interval:
    """Median with the range that 95 % of medians of resampled rounds fall into."""
    return bootstrap(rates, np.median, seed=0)


def paired_ratio(first: np.ndarray, second: np.ndarray) -> Interval:
    """Median over rounds of ``first / second``, both ``(rounds,)``: what slows the machine in a round cancels."""
    if len(first) != len(second):
        raise FermoError(f"rounds pair one with one, got {len(first)} and {len(second)}")
    return median(first / second)


def save(path: Path, results: Results) -> None:
    """Write `results` as JSON."""
    write_json(path, results)


def load(path: Path) -> Results:
    """What `save` wrote.

    Raises:
        FermoError: The file is missing, damaged, or of another version.
    """
    data: Any = read_json(path)
    found = data.get("format") if isinstance(data, dict) else None
    if found != FORMAT:
        raise FermoError(f"{path} has format {found}, this fermo reads {FORMAT}; measure again with fermo bench-speed")
    return from_json(Results, data, str(path))
