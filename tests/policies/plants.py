"""The plant the policy tests share: SO-101's signals in miniature."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from fermo.policies.base import SolvedPolicy
from fermo.policies.goal_bc.config import PerceptronConfig
from fermo.policies.registry import config_class, make_policy
from fermo.policies.windowed.config import TransformerConfig
from fermo.signal import PlantSpec, Signal

SPEC = PlantSpec(
    observations=(
        Signal.uniform(name="joint_position", shape=(6,), unit="rad", low=-3.0, high=3.0),
        Signal.uniform(name="joint_velocity", shape=(6,), unit="rad/s"),
        Signal.uniform(name="cube_position", shape=(3,), unit="m", device="object_tracker"),
        Signal.uniform(name="cube_heading", shape=(2,), unit="1", device="object_tracker"),
    ),
    commands=(Signal.uniform(name="joint_target", shape=(6,), unit="rad", low=-2.0, high=2.0),),
    rate_hz=25.0,
)

_TRANSFORMER = TransformerConfig(layers=2, heads=2, width=32)
_SMALL = {"hidden": (32, 32), "network": _TRANSFORMER, "transformer": _TRANSFORMER,
          "perceptron": PerceptronConfig(hidden=(32, 32))}  # fmt: skip  where a family has them


def demonstrations(samples: int = 512, seed: int = 0) -> tuple[Tensor, Tensor]:
    """A linear teacher: observations ``(M, 17)`` and actions ``(M, 6)``, in SI units."""
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([1.0] * 6 + [2.0] * 6 + [0.05] * 3 + [0.7] * 2)
    normal = torch.randn(samples, 17, generator=generator)
    teacher = 0.2 * torch.randn(17, 6, generator=generator)
    return normal * scale + 0.1, normal @ teacher + 0.3


def fitted_policy(family: str, **settings: object) -> Any:
    """A small policy with fitted normalisation and initial weights, or solved where there are none."""
    kind = config_class(family)
    small = {name: value for name, value in _SMALL.items() if name in {field.name for field in fields(kind)}}
    policy = make_policy(family, SPEC, kind(**{**small, **settings}))
    policy.fit_normalization(*demonstrations())
    if isinstance(policy, SolvedPolicy):
        policy.solve(*demonstrations(128), tolerance=1e-3, max_steps=10_000)
    return policy.eval()
