"""Pick up a cube: the tracker says where it lies, success is 5 cm of height at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import mujoco
import torch
from torch import Tensor

from fermo.assets.scenes.so101 import CUBE_HALF_SIZE, HOME_QPOS, TOOL_SITE, so101_scene
from fermo.assets.so101_plant import PICK_PLANT
from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.envs.core.constants import constant
from fermo.envs.core.object_tracker import ObjectTracker, ObjectTrackerConfig
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Sensor, Simulation, Task
from fermo.envs.rendering.coarse import coarse_visuals
from fermo.envs.tasks.so101_servos import make_servos


@dataclass(frozen=True, kw_only=True)
class PickCubeConfig:
    """Where the cube starts and what counts.

    Attributes:
        reach: Distance of the cube from the base axis [m].
        azimuth: Largest angle to either side [rad].
        episode_s: Length of an episode [s].
        lift_height: How much higher than its start the cube must be at the end [m].
        start_spread: Standard deviation of the arm's starting pose [rad].
        tracker: The tracking device.
        safety: Of a safety filter before the servos' limiter; None does without.
    """

    reach: tuple[float, float] = (0.14, 0.26)
    azimuth: float = math.radians(40.0)
    episode_s: float = 6.0
    lift_height: float = 0.05
    start_spread: float = 0.05
    tracker: ObjectTrackerConfig = field(default_factory=ObjectTrackerConfig)
    safety: ArmFilterConfig | None = None

    def __post_init__(self) -> None:
        if not 0 < self.reach[0] <= self.reach[1] or self.episode_s <= 0:
            raise ValueError(f"reach must be positive and ordered and episode_s positive, got {self}")


class TrackedCube:
    """The object tracker looking at the simulated cube."""

    def __init__(self, config: ObjectTrackerConfig, task: PickCube, num_worlds: int, device: torch.device) -> None:
        self._config, self._task, self._shape = config, task, (num_worlds, device)
        self._tracker: ObjectTracker | None = None

    @property
    def tracker(self) -> ObjectTracker:
        """The device; it exists from the first reset on."""
        assert self._tracker is not None, "the tracker starts with the first reset"
        return self._tracker

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """See `Sensor.reset`."""
        if self._tracker is None:
            self._tracker = ObjectTracker(self._config, sim.random, max_update_dt=self._task.control_dt)
        self._tracker.reset(mask, *self._scene(sim))

    def update(self, sim: Simulation) -> None:
        """See `Sensor.update`."""
        self.tracker.update(*self._scene(sim))

    def _scene(self, sim: Simulation) -> tuple[Tensor, ...]:
        task = self._task
        cube = sim["qpos"][:, task.cube_qpos]
        time = sim["time"].reshape(-1)
        return time, cube[:, :3], cube[:, 3:], sim["site_xpos"][:, task.tool_site], sim["xpos"][:, task.wrist_body]


class PickCube(Task):
    """`fermo/SO101-PickCube-v0`: physics at 200 Hz, policy at 25 Hz, 6 s; actions are servo goal angles [rad]."""

    name = "fermo/SO101-PickCube-v0"
    spec = PICK_PLANT
    substeps = 8

    def __init__(self, config: PickCubeConfig | None = None) -> None:
        self.config = config or PickCubeConfig()
        self.model = so101_scene().compile()
        self.max_steps = round(self.config.episode_s * self.spec.rate_hz)
        address = int(self.model.joint("cube").qposadr[0])
        self.cube_qpos = slice(address, address + 7)
        self.tool_site = self.model.site(TOOL_SITE).id
        self.wrist_body = self.model.body("gripper").id

    def picture_model(self) -> mujoco.MjModel:
        """See `Task.picture_model`: the CAD meshes are far finer than a video."""
        return coarse_visuals(so101_scene())

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """The cube anywhere in the annulus at any yaw, the arm near its home pose."""
        config, n = self.config, len(random.worlds)
        u = random.uniform("start cube", (3,))
        low, high = config.reach
        reach = torch.sqrt(low**2 + (high**2 - low**2) * u[:, 0])  # uniform over the area
        azimuth, yaw = config.azimuth * (2 * u[:, 1] - 1), 2 * math.pi * u[:, 2]
        qpos = torch.zeros(n, self.model.nq, dtype=torch.float64, device=u.device)
        qpos[:, :6] = constant(HOME_QPOS, u.device) + config.start_spread * random.normal("start arm", (6,))
        cube = [reach * torch.cos(azimuth), reach * torch.sin(azimuth), torch.full_like(reach, CUBE_HALF_SIZE),
                torch.cos(yaw / 2), torch.zeros_like(yaw), torch.zeros_like(yaw), torch.sin(yaw / 2)]  # fmt: skip
        qpos[:, self.cube_qpos] = torch.stack(cube, dim=1)
        return qpos, torch.zeros(n, self.model.nv, dtype=torch.float64, device=u.device)

    def make_sensors(self, num_worlds: int, device: torch.device) -> dict[str, Sensor]:
        """The object tracker and what keeps the servos safe."""
        tracker = TrackedCube(self.config.tracker, self, num_worlds, device)
        return {"object_tracker": tracker, "servos": make_servos(self.config.safety, self.model)}

    def ctrl(self, action: Tensor, sim: Simulation) -> Tensor:
        """Goal angles within the arm's safety limits, ``(N, 6)`` [rad]."""
        return sim.sensors["servos"].limit(action, sim)

    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        """Servo angles and what the tracker last delivered; never the simulator's own cube pose."""
        tracker = sim.sensors["object_tracker"].tracker
        return {
            "joint_position": sim["qpos"][:, :6],
            "cube_position": tracker.position,
            "cube_heading": tracker.heading,
        }

    def height_gained(self, sim: Simulation) -> Tensor:
        """How far the cube is above its start, ``(N,)`` [m]."""
        return sim["qpos"][:, self.cube_qpos.start + 2] - CUBE_HALF_SIZE

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Nearness of tool and cube, height of the cube, and success."""
        distance = (sim["site_xpos"][:, self.tool_site] - sim["qpos"][:, self.cube_qpos][:, :3]).norm(dim=1)
        height = self.height_gained(sim)
        return {
            "near": torch.exp(-10.0 * distance),
            "lift": (height / self.config.lift_height).clamp(0.0, 1.0),
            "success": (height > self.config.lift_height).to(distance.dtype),
        }

    def success(self, sim: Simulation) -> Tensor:
        """The cube is more than `lift_height` above its start."""
        return self.height_gained(sim) > self.config.lift_height
