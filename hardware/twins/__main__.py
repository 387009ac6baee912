"""``python -m fermo.hardware.twins so101 [--lockstep] [--seed N]``: serve a twin and announce its ports."""

from __future__ import annotations

import argparse
import contextlib
import json

from fermo.errors import unknown_name


def main() -> None:
    """Parse the arguments, announce the endpoints as one JSON line, serve until orphaned or interrupted."""
    parser = argparse.ArgumentParser(prog="fermo.hardware.twins", description="Serve a robot's twin.")
    parser.add_argument("robot", help="so101")
    parser.add_argument("--lockstep", action="store_true", help="time passes only when the supervisor steps it")
    parser.add_argument("--seed", type=int, default=0, help="of sensor noise and random faults")
    arguments = parser.parse_args()
    if arguments.robot != "so101":
        parser.error(str(unknown_name("twin", arguments.robot, ["so101"])))
    import torch

    from fermo.hardware.twins.process import TwinProcess

    torch.set_num_threads(1)
    twin = TwinProcess(lockstep=arguments.lockstep, seed=arguments.seed)
    print(json.dumps(twin.announce()), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        twin.serve()


if __name__ == "__main__":
    main()
