"""Tasks by name, and their registration with Gymnasium.

``gymnasium.make("fermo.envs:fermo/SO101-Reach-v0")`` and ``make_vec`` both work; the first part imports this package,
which registers every task.
"""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING, Any

import gymnasium

from fermo.errors import FermoError, unknown_name

if TYPE_CHECKING:
    from fermo.envs.core.task import Task

TASKS: dict[str, str] = {
    "fermo/SO101-Reach-v0": "fermo.envs.tasks.so101_reach:Reach",
    "fermo/SO101-PickCube-v0": "fermo.envs.tasks.so101_pick_cube:PickCube",
    "fermo/CartPole-v0": "fermo.envs.tasks.cart_pole:CartPole",
    "fermo/Pendulum-v0": "fermo.envs.tasks.pendulum:Pendulum",
    "fermo/BlockPush-v0": "fermo.envs.tasks.block_push:BlockPush",
    "fermo/FrankaKitchen-v0": "fermo.envs.tasks.franka_kitchen:FrankaKitchen",
    "fermo/Hopper-v5": "fermo.envs.tasks.gymnasium.planar_walker:Hopper",
    "fermo/Walker2d-v5": "fermo.envs.tasks.gymnasium.planar_walker:Walker2d",
    "fermo/HalfCheetah-v5": "fermo.envs.tasks.gymnasium.half_cheetah:HalfCheetah",
    "fermo/Ant-v5": "fermo.envs.tasks.gymnasium.ant:Ant",
    "fermo/Humanoid-v5": "fermo.envs.tasks.gymnasium.humanoid:Humanoid",
    "fermo/HumanoidStandup-v5": "fermo.envs.tasks.gymnasium.humanoid:HumanoidStandup",
    "fermo/InvertedPendulum-v5": "fermo.envs.tasks.gymnasium.inverted_pendulum:InvertedPendulum",
    "fermo/Robosuite-Lift-v0": "fermo.envs.tasks.robosuite.lift:Lift",
    "fermo/Robosuite-Stack-v0": "fermo.envs.tasks.robosuite.stack:Stack",
    "fermo/Robosuite-NutAssemblySquare-v0": "fermo.envs.tasks.robosuite.nut_assembly:NutAssemblySquare",
    "fermo/Robosuite-Door-v0": "fermo.envs.tasks.robosuite.door:Door",
}

ROBOSUITE = ("Lift", "Stack", "NutAssemblySquare", "Door")  # stepped by robosuite itself too, as "robosuite/Lift-v1"


def task_id(name: str) -> str:
    """Full registry name of a task given as ``"fermo/Hopper-v5"`` or ``"Hopper-v5"``, with or without the version."""
    for candidate in TASKS:
        short = candidate.removeprefix("fermo/")
        if name.removeprefix("fermo/").lower() in (short.lower(), short.rsplit("-v", 1)[0].lower()):
            return candidate
    raise unknown_name("task", name, [candidate.removeprefix("fermo/") for candidate in TASKS])


def make_task(name: str, config: Any = None, **arguments: Any) -> Task:
    """The task called `name`.

    Args:
        name: See `task_id`.
        config: The task's config; its defaults when None.
        **arguments: Fields of the config to change, for example ``ctrl_cost_weight=0.0``.

    Raises:
        FermoError: Unknown task or field, or a value the config refuses.
    """
    module, attribute = TASKS[task_id(name)].split(":")
    factory = getattr(importlib.import_module(module), attribute)
    if config is None:
        task = factory()
        if not arguments:
            return task
        config = task.config
    fields = [field.name for field in dataclasses.fields(config)]
    for argument in arguments:
        if argument not in fields:
            raise unknown_name(f"argument of {name}", argument, fields)
    try:
        return factory(dataclasses.replace(config, **arguments))
    except (TypeError, ValueError) as error:
        raise FermoError(f"{name} cannot be made so: {error}") from error


def register_with_gymnasium() -> None:
    """Make every task known to Gymnasium, as a single environment and as a batch, and robosuite's own beside them."""
    for name in TASKS:
        if name not in gymnasium.registry:
            gymnasium.register(
                name,
                entry_point="fermo.envs.adapters.gymnasium_single:SingleEnv",
                vector_entry_point="fermo.envs.adapters.gymnasium_vector:make_vector_env",
                kwargs={"task": name},
            )
    for name in ROBOSUITE:
        if f"robosuite/{name}-v1" not in gymnasium.registry:
            gymnasium.register(f"robosuite/{name}-v1", entry_point="fermo.envs.adapters.robosuite_single:RobosuiteEnv",
                               kwargs={"environment": name})  # fmt: skip
