"""``fermo export``: a checkpoint as one ONNX file, for a robot without torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fermo.cli.parsing import existing_checkpoint, parse


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Write a checkpoint as ONNX, with its signals and, where it has one, its certificate in the metadata.

    Attributes:
        checkpoint: Folder written by training.
        to: The file; ``policy.onnx`` in the checkpoint's parent folder when omitted.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    to: Path | None = None


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(ExportOptions, "export", arguments)
    folder = existing_checkpoint(options.checkpoint)
    from fermo.policies.checkpoint import load_checkpoint
    from fermo.policies.checkpoint_header import read_header
    from fermo.policies.export_onnx import export_onnx
    from fermo.policies.verify import verify_checkpoint

    policy = load_checkpoint(folder)
    proved = policy.why_not_exportable() is None and "uncertified" not in read_header(folder)
    certificate = verify_checkpoint(folder) if proved else None
    path = export_onnx(policy, options.to or folder.resolve().parent / "policy.onnx", certificate=certificate)
    about = "its certificate, proved again, is inside" if certificate else "it has no certificate"
    print(f"{path}\n{about}; inputs are SI observations, outputs SI commands")
