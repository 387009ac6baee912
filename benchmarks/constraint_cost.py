"""What a Lipschitz constraint costs: training steps and actions beside those of a free perceptron, turn by turn.

``python -m fermo.benchmarks.constraint_cost --widths 64 128 --batches 1024 --json constraint_cost.json``
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor

from fermo.benchmarks.results import paired_ratio
from fermo.errors import FermoError
from fermo.policies.registry import config_class, make_policy
from fermo.signal import PlantSpec, Signal
from fermo.training.bench.turns import Turn, take_turns
from fermo.training.loops.bc import BcConfig, BcTrainer
from fermo.training.statistics import Interval

FREE = "free"
CONTENDERS: dict[str, tuple[str, dict[str, Any]]] = {
    FREE: ("mlp_bc", {}),
    "cayley": ("lipschitz_bc", {"construction": "cayley"}),
    "sandwich": ("lipschitz_bc", {"construction": "sandwich"}),
    "penalised": ("lipschitz_bc", {"construction": "penalised", "gamma": None, "gamma_weight": 0.01}),
}
"""Family and settings; all have relu, so that they differ in the constraint alone."""

ARM = PlantSpec(
    observations=(Signal.uniform(name="joint_position", shape=(7,), unit="rad"),
                  Signal.uniform(name="joint_velocity", shape=(7,), unit="rad/s")),
    commands=(Signal.uniform(name="joint_target", shape=(7,), unit="rad"),), rate_hz=50.0,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CostOptions:
    """Seconds of a training step, and of the action of a folded policy, of every construction.

    Attributes:
        widths: Of both hidden layers.
        batches: Samples a training step.
        worlds: Observations an action batch.
        threads: Of torch.
        rounds: Turns of each contender.
        seconds: Least length of a turn.
        json: Where the rows go.
    """

    widths: tuple[int, ...] = (64, 128, 256, 512)
    batches: tuple[int, ...] = (256, 1024, 4096)
    worlds: tuple[int, ...] = (1, 1024)
    threads: int = 1
    rounds: int = 7
    seconds: float = 0.2
    json: Path = Path("constraint_cost.json")

    def __post_init__(self) -> None:
        counts = (*self.widths, *self.batches, *self.worlds, self.threads, self.rounds)
        if min(counts) < 1 or not self.widths or self.seconds <= 0:
            raise FermoError("widths, batches, worlds, threads, rounds and seconds must be positive")


@dataclass(frozen=True, kw_only=True)
class CostRow:
    """One contender at one size.

    Attributes:
        work: ``"training step"`` or ``"action"``.
        contender: Its name in `CONTENDERS`.
        width: Of the hidden layers.
        batch: Samples or observations.
        seconds: Of one step or action batch, one a turn; the k-th turns of all contenders stand side by side.
    """

    work: str
    contender: str
    width: int
    batch: int
    seconds: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ConstraintCost:
    """One run.

    Attributes:
        command: What was typed.
        started: Date and time, UTC.
        cpu: Processor.
        threads: Of torch.
        torch: Its version.
        commit: Of fermo's sources, empty outside a checkout; ``+`` after it where they were edited.
        load_before: Load average of the machine over a minute, before.
        load_after: The same after.
        constraint_rows: One a contender and size.
    """

    command: str
    started: str
    cpu: str
    threads: int
    torch: str
    commit: str
    load_before: float
    load_after: float
    constraint_rows: tuple[CostRow, ...]


def measure(options: CostOptions) -> list[CostRow]:
    """Every contender at every size, turn by turn."""
    rows = []
    for width in options.widths:
        for batch in options.batches:
            turns = {name: _training_step(name, width, batch) for name in CONTENDERS}
            rows += _take_turns("training step", width, batch, turns, options)
        for worlds in options.worlds:
            turns = {name: _action(name, width, worlds) for name in CONTENDERS}
            rows += _take_turns("action", width, worlds, turns, options)
    return rows


def ratios(rows: tuple[CostRow, ...]) -> Iterator[tuple[CostRow, Interval]]:
    """Every constrained row with its time over the free perceptron's, round by round."""
    free = {(row.work, row.width, row.batch): row for row in rows if row.contender == FREE}
    for row in rows:
        if row.contender != FREE:
            beside = free[row.work, row.width, row.batch]
            yield row, paired_ratio(np.array(row.seconds), np.array(beside.seconds))


def _policy(name: str, width: int) -> Any:
    family, settings = CONTENDERS[name]
    return make_policy(family, ARM, config_class(family)(hidden=(width, width), activation="relu", **settings))


def _data(samples: int) -> tuple[Tensor, Tensor]:
    normal = torch.randn(samples, 21, generator=torch.Generator().manual_seed(0))
    return normal[:, :14], normal[:, 14:]


def _training_step(name: str, width: int, batch: int) -> Turn:
    config = BcConfig(batch_size=batch, steps=1_000_000)
    return BcTrainer(_policy(name, width), *_data(4 * batch), config=config).take_step


def _action(name: str, width: int, worlds: int) -> Turn:
    policy, obs = _policy(name, width).fold().eval().requires_grad_(False), _data(worlds)[0]
    return lambda: policy.select_action(obs)


def _take_turns(work: str, width: int, batch: int, turns: dict[str, Turn], options: CostOptions) -> list[CostRow]:
    times = take_turns(turns, rounds=options.rounds, seconds=options.seconds)
    return [
        CostRow(work=work, contender=name, width=width, batch=batch, seconds=seconds)
        for name, seconds in times.items()
    ]


def table(rows: tuple[CostRow, ...]) -> str:
    """Ratios to the free perceptron, a line a constrained contender and size."""
    lines = [f"{'':<15}{'width':>6}{'batch':>7}  {'construction':<14}{'ms':>9}{'x free':>9}  95 %"]
    lines += [
        f"{row.work:<15}{row.width:>6}{row.batch:>7}  {row.contender:<14}{1e3 * float(np.median(row.seconds)):>9.3f}"
        f"{ratio.value:>9.2f}  {ratio.low:.2f} to {ratio.high:.2f}"
        for row, ratio in ratios(rows)
    ]
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    from fermo.training.files import write_json
    from fermo.training.provenance import git_commit, machine, provenance

    options = tyro.cli(CostOptions)
    torch.set_num_threads(options.threads)
    made, before, commit = provenance(), os.getloadavg()[0], git_commit()
    rows = tuple(measure(options))
    print(table(rows))
    write_json(options.json, ConstraintCost(
        command=f"python -m fermo.benchmarks.constraint_cost {made['command'].partition(' ')[2]}".rstrip(),
        started=made["started"], cpu=machine()["cpu"], threads=options.threads, torch=torch.__version__,
        commit=f"{commit['commit']}{'+' if commit['edited'] else ''}" if commit else "", load_before=before,
        load_after=os.getloadavg()[0], constraint_rows=rows,
    ))  # fmt: skip


if __name__ == "__main__":
    main()
