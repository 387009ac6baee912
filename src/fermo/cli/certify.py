"""``fermo certify``: is the certificate the one these weights deserve, and what does it mean for real sensors?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from fermo.cli.parsing import existing_checkpoint, parse
from fermo.errors import FermoError


@dataclass(frozen=True, kw_only=True)
class CertifyOptions:
    """Prove a checkpoint's certificate anew from its weights, and print what it says.

    Attributes:
        checkpoint: Folder written by training.
        sensor_error: Half-widths of sensor errors, as SIGNAL=VALUE in the signal's SI unit, from the sensors' data
            sheets: how far can they move each command? Signals that are not named are taken to be exact.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    sensor_error: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SIGNAL=VALUE")] = ()


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(CertifyOptions, "certify", arguments)
    sensor_error = dict(_half_width(text) for text in options.sensor_error)
    folder = existing_checkpoint(options.checkpoint)
    from fermo.policies.checkpoint_header import read_header

    header = read_header(folder)
    if "uncertified" in header:
        raise FermoError(f"{folder} has no certificate, as nothing is proved of it: {header['uncertified']}")
    if sensor_error and header["family"] == "lipschitz_extension":
        raise FermoError("--sensor-error is for networks: of an extension, add up sensitivity times error by hand")
    from fermo.policies.certificates.check_certificate import read_map, summary
    from fermo.policies.verify import verify_checkpoint

    certificate, moved = verify_checkpoint(folder), []
    if sensor_error:
        from fermo.policies.certificates.deviation import deviations

        moved = deviations(read_map(folder), sensor_error, certificate["lipschitz"])
    print(summary(certificate))
    if moved:
        print("with these sensor errors, each channel independent and at its worst:")
    for row in moved:
        print(f"  {row.command} is off by at most {row.bound:.4g} {row.unit} in l2 "
              f"(the single constant proves {row.by_constant:.4g})")  # fmt: skip
    print(f"the certificate of {folder} holds: its bounds follow from its weights")


def _half_width(text: str) -> tuple[str, float]:
    """``"joint_position=0.01"`` as a name and a number."""
    name, _, value = text.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise FermoError(f"--sensor-error takes SIGNAL=VALUE, as in joint_position=0.01, got {text!r}") from None
