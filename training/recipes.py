"""Settings that are known to work, by task and family; where there is none, the family's own defaults."""

from __future__ import annotations

from typing import Any

from fermo.policies.registry import config_class
from fermo.training.loops.bc_config import BcConfig

_PICK_CUBE = {"hidden": (128, 128, 128), "action_base": "joint_position"}

_POLICIES: dict[tuple[str, str], dict[str, Any]] = {
    ("fermo/SO101-PickCube-v0", "mlp_bc"): _PICK_CUBE,
    ("fermo/SO101-PickCube-v0", "lipschitz_bc"): _PICK_CUBE | {"gamma": 10.0},
}

_LOOPS: dict[tuple[str, str], dict[str, Any]] = {
    ("fermo/SO101-PickCube-v0", "mlp_bc"): {"steps": 5_000, "lr": 2e-3, "ema_decay": 0.999},
    ("fermo/SO101-PickCube-v0", "lipschitz_bc"): {"steps": 6_000, "lr": 1e-2, "ema_decay": 0.999},
}


def policy_recipe(task: str, family: str, **overrides: Any) -> Any:
    """The family's config for a task, with `overrides`."""
    return config_class(family)(**(_POLICIES.get((task, family), {}) | overrides))


def loop_recipe(task: str, family: str, **overrides: Any) -> BcConfig:
    """The loop's config for a task, with `overrides`."""
    return BcConfig(**(_LOOPS.get((task, family), {}) | overrides))
