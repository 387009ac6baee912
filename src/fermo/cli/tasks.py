"""``fermo tasks``: what can be learned, what can be observed and commanded, and what can go wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from fermo.cli.parsing import parse
from fermo.envs.registry import TASKS, task_id
from fermo.errors import FermoError
from fermo.signal import Signal


@dataclass(frozen=True, kw_only=True)
class TasksOptions:
    """List every task with its signals and units, or one task.

    Attributes:
        task: Which one; all when omitted.
        perturbations: List the perturbations instead.
    """

    task: Annotated[str | None, tyro.conf.Positional] = None
    perturbations: bool = False


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(TasksOptions, "tasks", arguments)
    chosen = [task_id(options.task)] if options.task else list(TASKS)
    if options.perturbations:
        _print_perturbations()
    else:
        for name in chosen:
            _print_task(name)


def _print_task(name: str) -> None:
    from fermo.envs.registry import make_task

    try:
        task = make_task(name)
    except FermoError as error:  # an extra is missing
        print(f"{name.removeprefix('fermo/')}: {error}")
        return
    spec, seconds = task.spec, task.max_steps * task.control_dt
    print(f"{name.removeprefix('fermo/')}: {spec.rate_hz:g} Hz, {seconds:g} s an episode, physics at "
          f"{1 / task.model.opt.timestep:g} Hz")  # fmt: skip
    for kind, signals in (("observes", spec.observations), ("commands", spec.commands)):
        for signal in signals:
            print(f"  {kind} {_describe(signal)}")


def _describe(signal: Signal) -> str:
    shape = "x".join(map(str, signal.shape)) or "1"
    low, high = min(signal.low), max(signal.high)
    text = f"{signal.name:<18} {shape:>4} [{signal.unit}] in {low:.3g} .. {high:.3g}, from {signal.device}"
    return f"{text}: {signal.description}" if signal.description else text


def _print_perturbations() -> None:
    from fermo.envs.perturbations.registry import describe

    for facts in describe():
        bounds = f"nominal {facts.nominal:g}, from {facts.low:g} to {facts.high:g}"
        print(f"{facts.name}: severity in {facts.unit}, {bounds}")
        print(f"  {facts.sentence}")
