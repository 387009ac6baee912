"""Tasks by name, and their registration with Gymnasium.

``gymnasium.make("fermo.envs:fermo/SO101-Reach-v0")`` and ``make_vec`` both work; the first part imports this package,
which registers every task.
"""

from __future__ import annotations

import importlib
from typing import Any

from fermo.envs.core.task import Task
from fermo.errors import unknown_name

TASKS: dict[str, str] = {
    "fermo/SO101-Reach-v0": "fermo.envs.tasks.so101_reach:Reach",
    "fermo/SO101-PickCube-v0": "fermo.envs.tasks.so101_pick_cube:PickCube",
}


def task_id(name: str) -> str:
    """Full registry name of a task given as ``"fermo/Hopper-v5"`` or ``"Hopper-v5"``, with or without the version."""
    for candidate in TASKS:
        short = candidate.removeprefix("fermo/")
        if name.removeprefix("fermo/").lower() in (short.lower(), short.rsplit("-v", 1)[0].lower()):
            return candidate
    raise unknown_name("task", name, [candidate.removeprefix("fermo/") for candidate in TASKS])


def make_task(name: str, config: Any = None) -> Task:
    """The task called `name`, with its default config when None."""
    module, attribute = TASKS[task_id(name)].split(":")
    factory = getattr(importlib.import_module(module), attribute)
    return factory(config) if config is not None else factory()
