"""Policies that differ in their settings alone: cloned from the same demonstrations by the task's own recipes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fermo.training.fit import fit
from fermo.training.recipes import loop_recipe, policy_recipe


def clones(task: str, data: Path, folder: Path, settings: Mapping[str, tuple[str, Mapping[str, Any]]], *, seed: int,
           steps: int | None = None) -> dict[str, Any]:  # fmt: skip
    """One policy a name; what is in `folder` already is continued.

    Args:
        task: Full name.
        data: Dataset folder.
        folder: Gets a run folder a name.
        settings: Family and what its config changes in the task's recipe, by name.
        seed: Of weights and batch order.
        steps: Gradient steps of each fit; the recipe's when None.
    """
    policies = {}
    for name, (family, changed) in settings.items():
        loop = loop_recipe(task, family, seed=seed)
        loop = loop if steps is None else replace(loop, steps=steps)
        policies[name] = fit(data, folder / name, task=task, family=family, loop=loop,
                             policy=policy_recipe(task, family, seed=seed, **changed))  # fmt: skip
    return policies
