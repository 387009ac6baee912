"""``fermo bench``: a checkpoint, or two side by side, under a grid of perturbations."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fermo.cli.eval import load_pair
from fermo.cli.parsing import existing_checkpoint, existing_folder, parse
from fermo.errors import FermoError, unknown_name

if TYPE_CHECKING:
    from fermo.envs.core.task import Task
    from fermo.policies.base import Policy
    from fermo.training.bench.grid import Axis
    from fermo.training.bench.grid_counts import WantedPairs
    from fermo.training.report.schema import Robustness


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """Success against severity, one perturbation after another.

    Attributes:
        checkpoint: Folder written by training.
        against: Another checkpoint of the same task, on the same starts.
        only: Perturbations to try; all of the task's grid that suit the policies when omitted.
        goals: A dataset of BlockPush; policies are told the last frames of its episodes, and what they achieve of the
            pairs of block and target that these ask for is counted in place of success.
        worlds: Episodes a cell.
        json: Where the counts go.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    against: Path | None = None
    only: tuple[str, ...] = ()
    goals: Path | None = None
    worlds: int = 64
    json: Path = Path("robustness.json")

    def __post_init__(self) -> None:
        if self.worlds < 1:
            raise FermoError(f"worlds must be at least 1, got {self.worlds}")


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(BenchOptions, "bench", arguments)
    for folder in filter(None, (options.checkpoint, options.against)):
        existing_checkpoint(folder)
    from fermo.training.bench.grid import Tried, run_grid, suited
    from fermo.training.files import write_json

    task, policy = load_pair(options.checkpoint, None)
    loaded = {"checkpoint": policy}
    if options.against:
        loaded["against"] = load_pair(options.against, task.name)[1]
    policies = {}
    for key, each in loaded.items():
        if not isinstance(each, Tried):
            raise FermoError(f"the grid tries policies that normalise what they observe; {each.family} does not")
        policies[key] = (each.family, each)
    axes, left_out = suited(_chosen(options, task), [each for _, each in policies.values()])
    if not axes:
        raise FermoError("; ".join(left_out))
    for reason in left_out:
        print(reason)
    robustness = run_grid(task, policies, axes, worlds=options.worlds, count=_wanted(options, task, loaded.values()))
    _tell(robustness)
    write_json(options.json, robustness)
    print(options.json)


def _chosen(options: BenchOptions, task: Task) -> tuple[Axis, ...]:
    """The axes asked for."""
    from fermo.training.bench.grid import GRIDS

    if task.name not in GRIDS:
        raise unknown_name("task with a perturbation grid", task.name, GRIDS)
    axes = GRIDS[task.name]
    for name in options.only:
        if name not in [axis.kind for axis in axes]:
            raise unknown_name("perturbation of the grid", name, [axis.kind for axis in axes])
    return tuple(axis for axis in axes if not options.only or axis.kind in options.only)


def _tell(robustness: Robustness) -> None:
    """The curves for people."""
    for curve in robustness.curves:
        print(f"{curve.title} [{curve.unit}]  " + "  ".join(f"{value:g}" for value in curve.severities))
        for series in curve.series:
            rates = "  ".join(f"{s / n:.0%}" for s, n in zip(series.successes, series.trials, strict=True))
            print(f"    {series.policy} ({series.label}{', random noise' if series.random else ''})  {rates}")


def _wanted(options: BenchOptions, task: Task, policies: Iterable[Policy]) -> WantedPairs | None:
    """What is counted where goals are given; None where success is."""
    if options.goals is None:
        return None
    from fermo.envs.tasks.block_push import BlockPush
    from fermo.policies.windowed.policy import WindowedPolicy
    from fermo.training.bench.block_push import Goals
    from fermo.training.bench.evaluate import TEST_SEED
    from fermo.training.bench.grid_counts import WantedPairs
    from fermo.training.data.reader import Dataset

    deaf = [policy.family for policy in policies if not isinstance(policy, WindowedPolicy)]
    if deaf or not isinstance(task, BlockPush):
        raise FermoError(f"{', '.join(deaf) or 'a policy'} at {task.name} is not told goals here: that needs "
                         "BlockPush, and a family that takes them, such as beso; leave --goals out to count "
                         "successes")  # fmt: skip
    goals = Goals.of(Dataset.open(existing_folder(options.goals, "dataset"))).draw(options.worlds, TEST_SEED)
    return WantedPairs(task=task, seed=TEST_SEED, goals=goals)
