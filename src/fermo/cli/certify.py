"""``fermo certify``: is the certificate the one these weights deserve?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fermo.cli.parsing import existing_folder, parse


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    """Compute a checkpoint's bound anew from its weights, compare it with its certificate, and print it.

    Attributes:
        checkpoint: Folder written by training.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(CertifyOptions, "certify", arguments)
    folder = existing_folder(options.checkpoint, "checkpoint")
    from fermo.policies.verify import verify_checkpoint

    print(json.dumps(verify_checkpoint(folder), indent=2))
    print(f"the certificate of {folder} holds: the bound follows from its weights")
