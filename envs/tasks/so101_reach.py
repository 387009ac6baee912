"""Bring the tool to a target point: the smallest task that uses the whole stack."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

from fermo.assets.scenes.so101 import HOME_QPOS, TOOL_SITE, so101_scene
from fermo.assets.so101_plant import REACH_PLANT
from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.envs.core.constants import constant
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Sensor, Simulation, Task
from fermo.envs.rendering.coarse import coarse_visuals
from fermo.envs.tasks.so101_servos import make_servos


@dataclass(frozen=True, kw_only=True)
class ReachConfig:
    """Where targets lie and what counts.

    Attributes:
        reach: Distance of the target from the base axis [m].
        azimuth: Largest angle to either side [rad].
        height: Of the target above the table [m].
        episode_s: Length of an episode [s].
        tolerance: Success is a tool nearer than this [m].
        start_spread: Standard deviation of the arm's starting pose [rad].
        safety: Of a safety filter before the servos' limiter; None does without.
    """

    reach: tuple[float, float] = (0.14, 0.30)
    azimuth: float = math.radians(60.0)
    height: tuple[float, float] = (0.03, 0.20)
    episode_s: float = 3.0
    tolerance: float = 0.02
    start_spread: float = 0.2
    safety: ArmFilterConfig | None = None

    def __post_init__(self) -> None:
        if not 0 < self.reach[0] <= self.reach[1] or self.height[0] > self.height[1] or self.episode_s <= 0:
            raise ValueError(f"reach and height must be ordered and positive, episode_s positive, got {self}")


class Target:
    """The point to reach, drawn anew each episode, shape ``(N, 3)`` [m]."""

    def __init__(self, config: ReachConfig, num_worlds: int, device: torch.device) -> None:
        self._config = config
        self.position = torch.zeros(num_worlds, 3, dtype=torch.float64, device=device)

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """Draw targets for the worlds of `mask`."""
        c, u = self._config, sim.random.uniform("target", (3,))
        reach = c.reach[0] + (c.reach[1] - c.reach[0]) * u[:, 0]
        azimuth = c.azimuth * (2 * u[:, 1] - 1)
        height = c.height[0] + (c.height[1] - c.height[0]) * u[:, 2]
        drawn = torch.stack([reach * torch.cos(azimuth), reach * torch.sin(azimuth), height], dim=1)
        self.position = torch.where(mask[:, None], drawn, self.position)

    def update(self, sim: Simulation) -> None:
        """The target stays."""


class Reach(Task):
    """`fermo/SO101-Reach-v0`: physics at 200 Hz, policy at 25 Hz, 3 s; actions are servo goal angles [rad]."""

    name = "fermo/SO101-Reach-v0"
    spec = REACH_PLANT
    substeps = 8

    def __init__(self, config: ReachConfig | None = None) -> None:
        self.config = config or ReachConfig()
        self.model = so101_scene(with_cube=False).compile()
        self.max_steps = round(self.config.episode_s * self.spec.rate_hz)
        self.tool_site = self.model.site(TOOL_SITE).id

    def picture_model(self) -> mujoco.MjModel:
        """See `Task.picture_model`: the CAD meshes are far finer than a video."""
        return coarse_visuals(so101_scene(with_cube=False))

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """The arm near its home pose, at rest."""
        noise = random.normal("start arm", (6,))
        qpos = constant(HOME_QPOS, noise.device) + self.config.start_spread * noise
        return qpos, torch.zeros_like(qpos)

    def make_sensors(self, num_worlds: int, device: torch.device) -> dict[str, Sensor]:
        """The target and what keeps the servos safe."""
        servos = make_servos(self.config.safety, self.model)
        return {"target": Target(self.config, num_worlds, device), "servos": servos}

    def ctrl(self, action: Tensor, sim: Simulation) -> Tensor:
        """Goal angles within the arm's safety limits, ``(N, 6)`` [rad]."""
        return sim.sensors["servos"].limit(action, sim)

    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        """Servo angles and the target."""
        return {"joint_position": sim["qpos"], "target_position": sim.sensors["target"].position}

    def distance(self, sim: Simulation) -> Tensor:
        """From tool to target, ``(N,)`` [m]."""
        return (sim["site_xpos"][:, self.tool_site] - sim.sensors["target"].position).norm(dim=1)

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Nearness, and a bonus inside the tolerance."""
        distance = self.distance(sim)
        return {"near": -distance, "inside": (distance < self.config.tolerance).to(distance.dtype)}

    def success(self, sim: Simulation) -> Tensor:
        """The tool is within the tolerance."""
        return self.distance(sim) < self.config.tolerance
