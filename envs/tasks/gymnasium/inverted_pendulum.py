"""InvertedPendulum: balance a pole on a cart."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fermo.envs.core.task import Simulation
from fermo.envs.tasks.gymnasium.base import GymnasiumConfig, GymnasiumTask


@dataclass(frozen=True, kw_only=True)
class InvertedPendulumConfig(GymnasiumConfig):
    """Arguments of InvertedPendulum-v5."""

    xml_file: str = "inverted_pendulum.xml"
    frame_skip: int = 2
    reset_noise_scale: float = 0.01


class InvertedPendulum(GymnasiumTask):
    """`fermo/InvertedPendulum-v5`: one motor, 25 Hz; the episode ends when the pole leans more than 0.2 rad."""

    name = "fermo/InvertedPendulum-v5"
    config: InvertedPendulumConfig

    def __init__(self, config: InvertedPendulumConfig | None = None) -> None:
        super().__init__(config or InvertedPendulumConfig())

    def terminated(self, sim: Simulation) -> Tensor:
        """The pole leans too far, or the state is not finite."""
        finite = torch.isfinite(sim["qpos"]).all(dim=1) & torch.isfinite(sim["qvel"]).all(dim=1)
        return ~finite | (sim["qpos"][:, 1].abs() > 0.2)

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """One for each step with the pole up."""
        return {"survive": (~self.terminated(sim)).to(sim["qpos"].dtype)}
