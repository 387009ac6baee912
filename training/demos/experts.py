"""Which tasks have a scripted expert; imports nothing heavy, so that a command line can check a name at once."""

from __future__ import annotations

from fermo.envs.registry import task_id
from fermo.errors import unknown_name

INSTRUCTIONS: dict[str, str] = {
    "fermo/SO101-PickCube-v0": "Pick up the cube.",
    "fermo/CartPole-v0": "Balance the pole in the middle of the track.",
    "fermo/Pendulum-v0": "Swing the pendulum up and hold it.",
    "fermo/BlockPush-v0": "Push each block into a target of its own.",
    "fermo/FrankaKitchen-v0": "Do four things in the kitchen.",
}
"""Task to what its expert does, in plain words."""


def expert_task(name: str) -> str:
    """Full name of a task that has a scripted expert; `FermoError` for others."""
    full = task_id(name)
    if full not in INSTRUCTIONS:
        known = [task.removeprefix("fermo/") for task in INSTRUCTIONS]
        raise unknown_name("task with a scripted expert", name, known)
    return full
