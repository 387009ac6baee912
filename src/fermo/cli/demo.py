"""``fermo demo``: the whole job on an SO-101 arm, from demonstrations to the robot's wire."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fermo.cli.parsing import parse


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """Record, train, certify, perturb, deploy on the twin, and write one report.

    Attributes:
        folder: The run.
        smoke: A few seconds of everything; its figures mean nothing.
        seed: Of demonstrations and training.
        resume: Continue the run in that folder.
    """

    folder: Path = Path("runs/demo")
    smoke: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    seed: int = 0
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(DemoOptions, "demo", arguments)
    from fermo.cli.demo_pipeline import SMOKE, DemoConfig, run_demo

    config = SMOKE if options.smoke else DemoConfig()
    run = run_demo(options.folder, config, seed=options.seed, resume=options.resume)
    print(f"report: {run.path / 'report.html'}")
