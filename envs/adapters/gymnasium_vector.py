"""The batch that ``gymnasium.make_vec(..., vectorization_mode="vector_entry_point")`` makes."""

from __future__ import annotations

import inspect
from typing import Any

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task

_OPTIONS = frozenset(inspect.signature(VectorEnv).parameters) - {"task", "num_envs"}


def make_vector_env(task: str, num_envs: int = 1, *, config: Any = None, **arguments: Any) -> VectorEnv:
    """`num_envs` worlds of the task called `task`.

    Args:
        task: Registry name.
        num_envs: N.
        config: The task's config; its defaults when None.
        **arguments: Arguments of `VectorEnv` such as ``seed`` or ``backend``; all others are fields of the config.
    """
    options = {name: arguments.pop(name) for name in _OPTIONS & arguments.keys()}
    return VectorEnv(make_task(task, config, **arguments), num_envs, **options)
