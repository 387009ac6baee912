"""``fermo distill``: a policy that samples in one step, from a trained diffusion policy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from fermo.cli.parsing import existing_checkpoint, existing_folder, parse
from fermo.errors import FermoError
from fermo.training.loops.distill_config import DistillConfig


@dataclass(frozen=True, kw_only=True)
class DistillOptions:
    """Distil a checkpoint of `beso` into a student that evaluates the network once.

    Attributes:
        checkpoint: The teacher's folder, written by training.
        data: Demonstrations to distil on; those it was trained on when omitted.
        folder: The run; ``distilled`` beside the teacher's checkpoint when omitted. The student's is
            ``distill/checkpoint`` in it.
        resume: Continue the run in that folder.
        training: The loop.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    data: Path | None = None
    folder: Path | None = None
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    training: DistillConfig = field(default_factory=DistillConfig)


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(DistillOptions, "distill", arguments)
    from fermo.policies.checkpoint_header import read_header

    extra = read_header(existing_checkpoint(options.checkpoint))["extra"]
    if options.data is None and "data" not in extra:
        raise FermoError(f"{options.checkpoint} does not say what it was trained on; add --data DATASET")
    data = existing_folder(options.data or Path(extra["data"]), "dataset")
    from fermo.training.distill import distill
    from fermo.training.run_folder import RunFolder

    folder = options.folder or options.checkpoint.parent / "distilled"
    config = {"teacher": str(options.checkpoint), "data": str(data), "training": options.training}
    run = RunFolder.create(folder, config, seeds={}, resume=options.resume)
    with run.stage("distill") as stage:
        if not stage.done:
            distill(options.checkpoint, data, stage.folder, loop=options.training)
            stage.result = read_header(stage.folder / "checkpoint")["extra"]["metrics"]
            print(", ".join(f"{name} {value:.4g}" for name, value in stage.result.items()))
        print(f"{stage.folder / 'checkpoint'}\nscore it with: fermo eval {stage.folder / 'checkpoint'}")
