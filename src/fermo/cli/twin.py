"""``fermo twin``: a robot's twin, served alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from fermo.cli.parsing import parse
from fermo.errors import unknown_name

TWINS = ("so101",)


@dataclass(frozen=True, kw_only=True)
class TwinOptions:
    """Serve a robot's twin until Ctrl-C: the real wire protocol, with MuJoCo behind it.

    Its calibration is kept under the name ``twin``, and the command that drives it is printed.

    Attributes:
        robot: ``so101``.
        lockstep: Time passes only when the supervisor port steps it.
        seed: Of sensor noise and random faults.
    """

    robot: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ROBOT")]
    lockstep: bool = False
    seed: int = 0


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(TwinOptions, "twin", arguments)
    if options.robot not in TWINS:
        raise unknown_name("twin", options.robot, TWINS)
    import torch

    from fermo.hardware.calibration import save_calibration
    from fermo.hardware.twins.process import TwinProcess
    from fermo.hardware.twins.so101 import nominal_calibration

    torch.set_num_threads(1)  # the twin steps one world; threads would only fight the loop it serves
    twin = TwinProcess(lockstep=options.lockstep, seed=options.seed)
    about = twin.announce()
    print(json.dumps(about), flush=True)
    save_calibration(nominal_calibration())
    print(f"drive it with: fermo deploy CHECKPOINT --port {about['port']} --tracker 127.0.0.1:{about['tracker_port']} "
          "--name twin", file=sys.stderr, flush=True)  # fmt: skip
    twin.serve()
