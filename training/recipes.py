"""Settings that are known to work, by task and family or learner; where there is none, its own defaults."""

from __future__ import annotations

from typing import Any

from fermo.policies.goal_bc.config import PerceptronConfig
from fermo.policies.registry import config_class
from fermo.policies.windowed.config import TransformerConfig
from fermo.training.loops.bc_config import BcConfig
from fermo.training.loops.rl_config import AnyLearner, learner_config
from fermo.training.loops.solve_config import SolveConfig

_PICK_CUBE = {"hidden": (128, 128, 128), "action_base": "joint_position"}
_BALANCE = {"hidden": (64, 64)}
_NO_DROPOUT = {"attention_dropout": 0.0, "residual_dropout": 0.0}
_BALANCE_BESO = {"context": 2, "network": TransformerConfig(layers=2, heads=2, width=64, **_NO_DROPOUT)}

_POLICIES: dict[tuple[str, str], dict[str, Any]] = {
    ("fermo/SO101-PickCube-v0", "mlp_bc"): _PICK_CUBE,
    ("fermo/SO101-PickCube-v0", "smooth_bc"): _PICK_CUBE,
    ("fermo/SO101-PickCube-v0", "lipschitz_bc"): _PICK_CUBE | {"gamma": 10.0},
    ("fermo/SO101-PickCube-v0", "lipschitz_extension"): {"alpha": 10.0, "action_base": "joint_position"},
    ("fermo/CartPole-v0", "mlp_bc"): _BALANCE,
    ("fermo/CartPole-v0", "smooth_bc"): _BALANCE,
    ("fermo/CartPole-v0", "lipschitz_bc"): _BALANCE | {"gamma": 3.0},
    ("fermo/SO101-PickCube-v0", "beso"): {
        "context": 2, "network": TransformerConfig(layers=3, heads=4, width=96, **_NO_DROPOUT),
    },
    ("fermo/CartPole-v0", "beso"): _BALANCE_BESO,
    ("fermo/CartPole-v0", "goal_bc"): {
        "context": 2, "perceptron": PerceptronConfig(hidden=(64, 64)), "transformer": _BALANCE_BESO["network"],
    },
    ("fermo/Pendulum-v0", "beso"): _BALANCE_BESO,
    ("fermo/Pendulum-v0", "mlp_bc"): _BALANCE,
    ("fermo/Pendulum-v0", "smooth_bc"): _BALANCE,
    ("fermo/Pendulum-v0", "lipschitz_bc"): _BALANCE | {"gamma": 20.0},
}

_SHORT = {"steps": 3_000, "batch_size": 512, "ema_decay": 0.99}
_LOOPS: dict[tuple[str, str], dict[str, Any]] = {
    ("fermo/SO101-PickCube-v0", "mlp_bc"): {"steps": 5_000, "lr": 2e-3, "ema_decay": 0.999},
    ("fermo/SO101-PickCube-v0", "smooth_bc"): {"steps": 5_000, "lr": 2e-3, "ema_decay": 0.999},
    ("fermo/SO101-PickCube-v0", "lipschitz_bc"): {"steps": 6_000, "lr": 1e-2, "ema_decay": 0.999},
    ("fermo/CartPole-v0", "mlp_bc"): _SHORT | {"lr": 3e-3},
    ("fermo/CartPole-v0", "smooth_bc"): _SHORT | {"lr": 3e-3},
    ("fermo/CartPole-v0", "lipschitz_bc"): _SHORT | {"lr": 1e-2},
    ("fermo/Pendulum-v0", "mlp_bc"): _SHORT | {"lr": 3e-3},
    ("fermo/Pendulum-v0", "smooth_bc"): _SHORT | {"lr": 3e-3},
    ("fermo/SO101-PickCube-v0", "beso"): {
        "steps": 5_000, "batch_size": 256, "lr": 1e-3, "ema_decay": 0.999, "validation": 0.05,
    },
    ("fermo/CartPole-v0", "beso"): _SHORT | {"lr": 1e-3, "validation": 0.05},
    ("fermo/CartPole-v0", "goal_bc"): _SHORT | {"lr": 1e-3, "validation": 0.05},
    ("fermo/Pendulum-v0", "beso"): _SHORT | {"lr": 1e-3, "validation": 0.05},
    ("fermo/Pendulum-v0", "lipschitz_bc"): _SHORT | {"lr": 1e-2},
}

# Where a task has none of its own: BESO's own (Reuss et al. 2023), for its baselines too.
_LONG = {"steps": 40_000, "lr": 1e-4, "weight_decay": 0.01, "ema_decay": 0.999, "validation": 0.05}
_FAMILY_LOOPS: dict[str, dict[str, Any]] = {"beso": _LONG, "goal_bc": _LONG}


def policy_recipe(task: str, family: str, **overrides: Any) -> Any:
    """The family's config for a task, with `overrides`."""
    return config_class(family)(**(_POLICIES.get((task, family), {}) | overrides))


def loop_class(family: str) -> type[BcConfig] | type[SolveConfig]:
    """The config of the loop that makes a family: of solving where there is something to solve, else of descent."""
    return SolveConfig if family == "lipschitz_extension" else BcConfig


def loop_recipe(task: str, family: str, **overrides: Any) -> Any:
    """The loop's config for a task, with `overrides`."""
    known = _LOOPS.get((task, family), _FAMILY_LOOPS.get(family, {}))
    return loop_class(family)(**(known | overrides))


_REACH = {"hidden": (128, 128), "gamma": 0.9}
_RELU = {"hidden": (256, 256), "activation": "relu", "epochs": 10, "lr": 3e-4, "value": 0.5, "max_grad_norm": 0.5}
_MILLION = _RELU | {"iterations": 488, "rollout_steps": 64, "minibatches": 8, "schedule": "fixed"}
"""A million samples in 32 worlds."""
_CHEETAH = {"gamma": 0.98, "gae_lambda": 0.92}
_LOCOMOTION = {"reward_scale": 0.1, "rollout_steps": 32}

_LEARNERS: dict[tuple[str, str], dict[str, Any]] = {
    ("fermo/SO101-Reach-v0", "ppo"): _REACH | {
        "iterations": 120, "rollout_steps": 16, "minibatches": 8, "gae_lambda": 0.9, "schedule": "fixed",
        "init_std": 0.2,
    },
    ("fermo/SO101-Reach-v0", "sb3_ppo"): _REACH | {"steps": 2_000_000, "rollout_steps": 32, "batch_size": 512,
                                                   "gae_lambda": 0.9, "lr": 1e-3, "log_std": -0.5},
    ("fermo/SO101-Reach-v0", "td3"): {"gamma": 0.9, "steps": 150_000},
    ("fermo/SO101-Reach-v0", "sac"): {"gamma": 0.9, "steps": 150_000},
    ("fermo/Hopper-v5", "ppo"): _MILLION | {
        "gamma": 0.99, "gae_lambda": 0.95, "init_std": 0.5, "reward_scale": 0.01,
    },
    ("fermo/Walker2d-v5", "ppo"): _LOCOMOTION | {"iterations": 300, "init_std": 0.5},
    ("fermo/HalfCheetah-v5", "ppo"): _MILLION | _CHEETAH | {"init_std": 0.3, "reward_scale": 0.005},
    ("fermo/HalfCheetah-v5", "sb3_ppo"): _RELU | _CHEETAH | {
        "rollout_steps": 128, "batch_size": 256, "log_std": -1.2,
    },
    ("fermo/Ant-v5", "ppo"): _LOCOMOTION | {"iterations": 150, "init_std": 0.5, "hidden": (128, 128)},
    ("fermo/Hopper-v5", "td3"): {"lr": 3e-4},
}  # fmt: skip

_WORLDS = {"ppo": 256, "sb3_ppo": 16, "td3": 8, "sac": 8}
_TASK_WORLDS = {("fermo/SO101-Reach-v0", "ppo"): 512, ("fermo/SO101-Reach-v0", "sb3_ppo"): 128,
                ("fermo/HalfCheetah-v5", "ppo"): 32, ("fermo/Hopper-v5", "ppo"): 32}  # fmt: skip


def learner_recipe(task: str, learner: str, **overrides: Any) -> AnyLearner:
    """The learner's config for a task, with `overrides`."""
    return learner_config(learner)(**(_LEARNERS.get((task, learner), {}) | overrides))


def worlds_recipe(task: str, learner: str) -> int:
    """How many worlds the recipe was made for."""
    return _TASK_WORLDS.get((task, learner), _WORLDS[learner])
