"""The process of one contender: makes it, then runs a round whenever its parent says so.

The parent writes lines to standard input and reads JSON lines from standard output::

    {"target": "module:Class", "case": {...}}  ->  {"ready": {...}} or {"absent": "why"}
    round SECONDS                              ->  {"env_steps": ..., "wall_s": ..., "cpu_s": ...}
    memory                                     ->  {"grown_bytes": ..., "peak_bytes": ...}

It ends when its input does. Only the standard library and `fermo.benchmarks.contender` are imported here, so that it
runs in the Python of a peer, where fermo is not installed.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from typing import Any, TextIO

from fermo.benchmarks import process_tree
from fermo.benchmarks.contender import Case, Contender, NotForThisCaseError

WARM_STEPS, WARM_SECONDS = 100, 10.0  # whichever comes first; episodes start together and must spread out


def main() -> None:
    """Serve until standard input closes."""
    answers = _claim_stdout()
    order = json.loads(sys.stdin.readline())
    try:
        contender = _load(order["target"], Case(**order["case"]))
        contender.prepare()
    except NotForThisCaseError as why:
        _say(answers, {"absent": str(why)})
        return
    gc.collect()
    before = process_tree.data_bytes()
    worlds = contender.make()
    _warm_up(contender)
    _say(answers, {"ready": {"num_envs": worlds, "note": contender.note}})
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "round":
            _say(answers, run_round(contender, worlds, float(argument)))
        elif command == "memory":
            grown = process_tree.data_bytes() - before
            _say(answers, {"grown_bytes": grown, "peak_bytes": process_tree.peak_resident_bytes()})
    contender.close()


def run_round(contender: Contender, worlds: int, seconds: float) -> dict[str, float]:
    """Step for at least `seconds` and at least once; `worlds` environment steps a call."""
    calls, cpu, start = 0, process_tree.cpu_seconds(), time.perf_counter()
    end = start + seconds
    while calls == 0 or time.perf_counter() < end:
        contender.step()
        calls += 1
    contender.finish()
    wall = time.perf_counter() - start
    return {"env_steps": calls * worlds, "wall_s": wall, "cpu_s": process_tree.cpu_seconds() - cpu}


def _load(target: str, case: Case) -> Contender:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)(case)


def _warm_up(contender: Contender) -> None:
    contender.step()  # may compile for minutes
    contender.finish()
    end = time.perf_counter() + WARM_SECONDS
    for _ in range(WARM_STEPS):
        contender.step()
        if time.perf_counter() > end:
            break
    contender.finish()
    gc.collect()


def _claim_stdout() -> TextIO:
    """Standard output for the answers alone; whatever libraries print goes to the error stream."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _say(answers: TextIO, message: dict[str, Any]) -> None:
    answers.write(json.dumps(message) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()
