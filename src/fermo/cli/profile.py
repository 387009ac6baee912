"""``fermo profile``: where a task's step goes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fermo.cli.parsing import parse
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.benchmarks.profile import Profile, Share


@dataclass(frozen=True, kw_only=True)
class ProfileOptions:
    """Share of physics, reward, observation and so on in a step of a task, and MuJoCo's own split of the physics.

    Attributes:
        task: Name of the task.
        num_envs: Number of worlds.
        backend: The engine.
        device: Of the warp back end; the first CUDA device, or else the CPU, when omitted.
        threads: Of the cpu back end; as many as this process has processors when 0.
        steps: How many steps are timed.
        perturb: Perturbations to apply, each as NAME=SEVERITY, or NAME=LOW:HIGH for one drawn for each episode; fermo
            tasks --perturbations lists them.
        json: Where the numbers go; nowhere when omitted.
    """

    task: Annotated[str, tyro.conf.Positional]
    num_envs: int = 64
    backend: Literal["cpu", "warp"] = "cpu"
    device: str | None = None
    threads: int = 0
    steps: int = 200
    perturb: tuple[str, ...] = ()
    json: Path | None = None

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.steps < 1 or self.threads < 0:
            raise FermoError(f"num_envs and steps start at 1, threads at 0: got {self.num_envs}, {self.steps} "
                             f"and {self.threads}")  # fmt: skip


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(ProfileOptions, "profile", arguments)
    from fermo.benchmarks.cases import existing_device
    from fermo.benchmarks.contender import Case
    from fermo.benchmarks.profile import profile
    from fermo.cli.perturbing import perturbation
    from fermo.envs.registry import make_task
    from fermo.training.files import write_json

    task = make_task(options.task)
    case = Case(task=task.name, num_envs=options.num_envs, threads=options.threads or len(os.sched_getaffinity(0)),
                backend=options.backend, device=existing_device(options.backend, options.device))  # fmt: skip
    found = profile(task, case, options.steps, [perturbation(text) for text in options.perturb])
    print(_table(found))
    if options.json:
        write_json(options.json, found)
        print(options.json)


def _table(found: Profile) -> str:
    bare = f"{1e3 * found.bare_step_s:.3f} ms and {found.num_envs / found.bare_step_s:,.0f} env-steps/s without clocks"
    head = (
        f"{found.task}, N = {found.num_envs}, {found.backend} back end on {found.device}: "
        f"{1e3 * found.step_s:.3f} ms a step; {bare}"
    )
    asked = found.launches
    launched = [f"a step launches {asked.warp} Warp kernels and {asked.tensor} tensor operations"] if asked else []
    return "\n".join([head, *map(_row, found.stages), *launched, "physics by MuJoCo's own timers, one world:",
                      *map(_row, found.physics)])  # fmt: skip


def _row(share: Share) -> str:
    return f"  {share.stage:<26}{1e3 * share.seconds:>10.4f} ms {share.share:>7.1%}"
