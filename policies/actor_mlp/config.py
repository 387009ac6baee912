"""Settings of `actor_mlp`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fermo.errors import FermoError
from fermo.policies.behavior_cloning_config import Activation, BehaviorCloningConfig, require_positive


@dataclass(frozen=True, kw_only=True)
class ActorMlpConfig(BehaviorCloningConfig):
    """The mean of a learned actor, in units of the commands' half ranges.

    Attributes:
        squash: How the network's output is brought into the commands' bounds: cut off there, or by tanh.
        observation_clip: Largest normalised observation, in standard deviations; none when None.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    squash: Literal["clip", "tanh"] = "clip"
    observation_clip: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.squash not in ("clip", "tanh"):
            raise FermoError(f"squash {self.squash!r} does not exist: choose from clip, tanh")
        if self.observation_clip is not None:
            require_positive(observation_clip=self.observation_clip)
