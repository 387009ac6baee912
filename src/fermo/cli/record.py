"""``fermo record``: demonstrations of a scripted expert or a trained policy, as a LeRobotDataset v3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fermo.cli.parsing import parse
from fermo.errors import FermoError


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """Record an expert in batched simulation; failures are kept and labelled, except where a benchmark wants none.

    Attributes:
        task: Which task; it must have a scripted expert, or --expert names one.
        expert: A checkpoint whose policy is the expert, for example of fermo train TASK ppo.
        folder: The new dataset; ``data/TASK`` when omitted.
        episodes: Undisturbed ones.
        recoveries: Ones whose execution is disturbed, so that the expert shows how to recover; the recorded action is
            always the expert's own. When omitted 768, or 0 for a task that is demonstrated without.
        seed: Of everything random.
    """

    task: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TASK")]
    expert: Path | None = None
    folder: Path | None = None
    episodes: int = 256
    recoveries: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        asked = 1 if self.recoveries is None else self.recoveries
        if min(self.episodes, asked) < 0 or self.episodes + asked < 1:
            raise FermoError("episodes and recoveries must not be negative, and one episode is the least")


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(RecordOptions, "record", arguments)
    from fermo.envs.registry import task_id
    from fermo.training.demos.experts import expert_task

    name = task_id(options.task) if options.expert else expert_task(options.task)
    folder = options.folder or Path("data") / name.removeprefix("fermo/")
    if folder.exists():
        raise FermoError(f"{folder} exists already; remove it or give another --folder")
    from fermo.training.demos.dataset import DEMONSTRATORS, policy_demonstrator, record_dataset

    if options.expert:
        from fermo.cli.eval import load_pair

        demonstrator = policy_demonstrator(*load_pair(options.expert, name))
    else:
        demonstrator = DEMONSTRATORS[name]
    recoveries = demonstrator.recoveries(768) if options.recoveries is None else options.recoveries
    counts = record_dataset(name, folder, episodes=options.episodes, recoveries=recoveries, seed=options.seed,
                            demonstrator=demonstrator)  # fmt: skip
    print(f"{folder}: " + ", ".join(f"{count} {title}" for title, count in counts.items()))
