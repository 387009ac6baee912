"""The ``fermo`` command: a list of subcommands, each a module that is imported when it is called.

Only the chosen subcommand's module is imported, so help and mistakes answer at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module

from fermo.errors import FermoError, unknown_name

COMMANDS: dict[str, str] = {
    "demo": "the whole job: demonstrations, policies, robustness report, robot twin",
    "assets": "list, fetch or add the robots and objects that other packages ship",
    "tasks": "list tasks, their signals and units; --perturbations lists what can go wrong",
    "record": "record demonstrations of a scripted expert",
    "train": "train a policy, on demonstrations or by reinforcement: fermo train TASK NAME",
    "distill": "a policy that samples in one step, from a trained diffusion policy",
    "eval": "score a checkpoint on held-out starts: success or return, with a video",
    "bench": "a checkpoint, or two, under a grid of perturbations",
    "bench-speed": "how fast tasks step, beside the bare engine and beside peers",
    "play": "watch a task, a checkpoint or a diverged world",
    "profile": "where a task's step goes, stage by stage",
    "divergence": "how far single precision on Warp departs from MuJoCo's double",
    "export": "write a policy as one ONNX file, its certificate proved again and inside",
    "certify": "check the certificate of a checkpoint against its weights",
    "guarantee": "how far wrong measurements can drive a checkpoint's closed loop",
    "twin": "serve a robot's twin and print its port",
    "find-port": "find the serial port that has servos behind it",
    "calibrate": "find the zeros and ranges of an arm's joints",
    "deploy": "run a checkpoint on a robot, or on its twin",
    "reproduce": "run a published or claimed result again",
    "info": "print versions and hardware for a bug report",
}
"""Subcommand to one line of help; ``find-port`` lives in ``fermo.cli.find_port``."""

_RESUMABLE = ("demo", "train", "distill", "reproduce")
_INTERRUPTED, _MISTAKE = 130, 2


def main(argv: Sequence[str] | None = None) -> None:
    """Run one subcommand; the process ends with status 0, 2 after a mistake, or 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    # torch's threads would otherwise spin for milliseconds after their work, on the processors that physics needs next.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    try:
        _run(arguments)
    except FermoError as error:
        print(f"fermo: error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(_MISTAKE) from None
    except KeyboardInterrupt:
        print(f"\nfermo: stopped{_how_to_resume(arguments)}", file=sys.stderr)
        raise SystemExit(_INTERRUPTED) from None
    except BrokenPipeError:  # `fermo tasks | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
    elif arguments[0] in ("-V", "--version"):
        import fermo

        print(f"fermo {fermo.__version__}")
    elif arguments[0] in COMMANDS:
        _settle_opengl()
        import_module(f"fermo.cli.{arguments[0].replace('-', '_')}").main(arguments[1:])
    else:
        raise unknown_name("command", arguments[0], COMMANDS)


def _settle_opengl() -> None:
    """MuJoCo cannot even be imported where ``MUJOCO_GL`` names an OpenGL that is not there; do without, and say so."""
    wanted = os.environ.get("MUJOCO_GL", "")
    if not wanted:
        return
    try:
        import_module("mujoco")
    except Exception as error:  # whatever a missing graphics library raises
        os.environ["MUJOCO_GL"] = "off"
        print(f"fermo: MUJOCO_GL={wanted} does not start here ({error}); pictures are ray-cast", file=sys.stderr)


def _help() -> str:
    rows = "\n".join(f"  {name:<{max(map(len, COMMANDS))}}  {line}" for name, line in COMMANDS.items())
    return (
        "usage: fermo COMMAND ...\n\n"
        "Learn a policy in batched MuJoCo, know how robust it is, run the same file on a real robot.\n\n"
        f"commands:\n{rows}\n\n"
        "`fermo COMMAND --help` explains one command; `fermo --version` prints the version."
    )


def _how_to_resume(arguments: list[str]) -> str:
    if not arguments or arguments[0] not in _RESUMABLE:
        return ""
    import shlex

    again = arguments if "--resume" in arguments else [*arguments, "--resume"]
    return f"; what is finished is saved, continue with: {shlex.join(['fermo', *again])}"
