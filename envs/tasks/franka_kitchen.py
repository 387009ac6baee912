"""Seven things to do in a kitchen, four of them in each demonstration: the relay benchmark, as FrankaKitchen has it.

A. Gupta et al., "Relay policy learning", CoRL 2019. Model, goals, control law and sensor noise are those of
gymnasium-robotics 1.4 (`FrankaKitchen-v1`), a step of which this task equals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

from fermo.assets.scenes.franka_kitchen import joint_specifications, kitchen_picture, kitchen_scene
from fermo.envs.core.constants import constant
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Sensor, Simulation, Task
from fermo.envs.rendering.coarse import coarse_visuals
from fermo.envs.tasks import franka_kitchen_metrics as metrics
from fermo.errors import FermoError
from fermo.signal import PlantSpec, Signal

ARM, ROBOT, OBJECTS = slice(0, 7), slice(0, 9), slice(9, 30)
"""Elements of `qpos`: the arm's joints, these and the fingers', everything else."""

START_QPOS = (
    0.148388023, -1.76848573, 1.84390296, -2.4768576, 0.260252026, 0.712533105, 1.59515394, 0.0479267505, 0.0371350919,
    -2.6627985e-4, -5.18043486e-5, 3.1287722e-5, -4.51199853e-5, -3.90842156e-6, -4.22629655e-5, 6.28065475e-5,
    4.04984708e-5, 4.62730939e-4, -2.26906415e-4, -4.65501369e-4, -6.44129196e-3, -1.77048263e-3, 1.08009684e-3,
    -0.26939744, 0.350383255, 1.61944683, 1.00618764, 4.06395120e-3, -6.62095997e-3, -2.68278933e-4,
)  # fmt: skip
"""Where the package's episodes begin [rad], [m]: arm, fingers, objects; the kettle's pose is the last seven."""

_OBSERVED = (
    ("joint_position", 7, "rad", "of the arm"),
    ("finger_position", 2, "m", "of each finger, from closed"),
    ("bottom_right_knob", 1, "rad", "0 is off"),
    ("bottom_right_burner", 1, "m", ""),
    ("bottom_left_knob", 1, "rad", "'bottom burner' in the benchmark"),
    ("bottom_left_burner", 1, "m", ""),
    ("top_right_knob", 1, "rad", ""),
    ("top_right_burner", 1, "m", ""),
    ("top_left_knob", 1, "rad", "'top burner' in the benchmark"),
    ("top_left_burner", 1, "m", ""),
    ("light_switch", 1, "rad", "0 is off"),
    ("light", 1, "m", "follows the switch"),
    ("slide_cabinet", 1, "m", "0 is shut"),
    ("left_hinge_cabinet", 1, "rad", "0 is shut"),
    ("right_hinge_cabinet", 1, "rad", "0 is shut"),
    ("microwave", 1, "rad", "0 is shut"),
    ("kettle_position", 3, "m", ""),
    ("kettle_quaternion", 4, "1", "w x y z"),
)


@dataclass(frozen=True, kw_only=True)
class FrankaKitchenConfig:
    """What counts, how noisy sensors are, how starts differ; defaults are the package's but for the starts.

    Attributes:
        threshold: A sub-task is done when it is nearer than this to its goal.
        enough: Sub-tasks after which an episode counts as solved; it goes on until all seven are done.
        episode_s: Length of an episode [s].
        robot_noise_ratio: Of the noise amplitudes of the package's configuration, for the robot's joints: with 0.01,
            1 mrad and 1 mm. The control law reads the noisy positions.
        object_noise_ratio: The same for everything else.
        start_spread: How far each of the arm's joints may begin from the package's start [rad]; 0 there.
    """

    threshold: float = 0.3
    enough: int = 4
    episode_s: float = 22.4
    robot_noise_ratio: float = 0.01
    object_noise_ratio: float = 0.0005
    start_spread: float = 0.05

    def __post_init__(self) -> None:
        for name in ("threshold", "episode_s"):
            if not 0 < getattr(self, name) < math.inf:
                raise FermoError(f"{name} must be positive and finite, got {getattr(self, name)}")
        for name in ("robot_noise_ratio", "object_noise_ratio", "start_spread"):
            if not 0 <= getattr(self, name) < math.inf:
                raise FermoError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if not 1 <= self.enough <= len(metrics.SUBTASKS):
            raise FermoError(f"enough must lie between 1 and {len(metrics.SUBTASKS)}, got {self.enough}")


class Encoders:
    """Noisy positions of everything, shape ``(N, 30)`` [rad], [m]: what is observed, and what the control law reads."""

    def __init__(self, amplitude: tuple[float, ...], num_worlds: int, device: torch.device) -> None:
        self._amplitude = constant(amplitude, device)
        self.position = torch.zeros(num_worlds, len(amplitude), dtype=torch.float64, device=device)

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """Read the worlds of `mask`."""
        self.position = torch.where(mask[:, None], self._read(sim), self.position)

    def update(self, sim: Simulation) -> None:
        """Read all worlds."""
        self.position = self._read(sim)

    def _read(self, sim: Simulation) -> Tensor:
        noise = sim.random.uniform("encoders", (len(self._amplitude),), step=sim.steps, low=-1.0, high=1.0)
        return sim["qpos"].double() + self._amplitude * noise


class Finishes:
    """The control step after which each sub-task first was done, 0 for never, shape ``(N, 7)`` int64."""

    def __init__(self, task: FrankaKitchen, num_worlds: int, device: torch.device) -> None:
        self._task = task
        self.steps = torch.zeros(num_worlds, len(metrics.SUBTASKS), dtype=torch.int64, device=device)

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """Nothing is done yet in the worlds of `mask`."""
        self.steps = self.steps.masked_fill(mask[:, None], 0)

    def update(self, sim: Simulation) -> None:
        """Note what is done for the first time."""
        new = self._task.done(sim) & (self.steps == 0)
        self.steps = torch.where(new, sim.steps[:, None], self.steps)


class FrankaKitchen(Task):
    """`fermo/FrankaKitchen-v0`: microwave, kettle, two burners, light, two cabinets; 12.5 Hz, 280 steps.

    Each sub-task pays 1 when it is first done; four make an episode solved, and all seven end it.

    Attributes:
        top_speed: What an action of 1 asks of a joint [rad/s], [m/s].
    """

    name = "fermo/FrankaKitchen-v0"
    substeps = 40
    top_speed = 2.0

    def __init__(self, config: FrankaKitchenConfig | None = None) -> None:
        self.config = config or FrankaKitchenConfig()
        self.model = kitchen_scene().compile()
        observed = tuple(Signal.uniform(name=name, shape=(size,), unit=unit, description=description,
                                        device="robot" if "joint" in name or "finger" in name else "tracker")
                         for name, size, unit, description in _OBSERVED)  # fmt: skip
        speeds = (("joint_velocity", 7, "rad/s"), ("finger_velocity", 2, "m/s"))
        commands = tuple(Signal.uniform(name=name, shape=(size,), unit="1", low=-1.0, high=1.0,
                                        description=f"1 is {self.top_speed:g} {unit}")
                         for name, size, unit in speeds)  # fmt: skip
        self.spec = PlantSpec(observations=observed, commands=commands, rate_hz=1.0 / self.control_dt)
        self.max_steps = round(self.config.episode_s * self.spec.rate_hz)
        bounds = [tuple(side) for side in zip(*joint_specifications("pos_bound")[ROBOT], strict=True)]
        self._lowest, self._highest = bounds
        self._amplitude = self._noise_amplitude()

    def _noise_amplitude(self) -> tuple[float, ...]:
        """Of every element of `qpos`. The package's table is by degree of freedom; it reads the objects' from 8 on."""
        amplitude = [values[0] for values in joint_specifications("pos_noise_amp")][: self.model.nv]
        robot = [self.config.robot_noise_ratio * value for value in amplitude[ROBOT]]
        return (*robot, *(self.config.object_noise_ratio * value for value in amplitude[8:]))

    def picture_model(self) -> mujoco.MjModel:
        """See `Task.picture_model`: with all that is to be seen."""
        return coarse_visuals(kitchen_picture())

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """The package's start with the arm's joints anywhere within the spread, everything at rest."""
        noise = random.uniform("start arm", (7,), low=-1.0, high=1.0)
        qpos = constant(START_QPOS, noise.device).repeat(len(noise), 1)
        qpos[:, ARM] += self.config.start_spread * noise
        return qpos, torch.zeros(len(noise), self.model.nv, dtype=qpos.dtype, device=qpos.device)

    def make_sensors(self, num_worlds: int, device: torch.device) -> dict[str, Sensor]:
        """What the encoders read, and what has been finished."""
        return {"encoders": Encoders(self._amplitude, num_worlds, device),
                "finishes": Finishes(self, num_worlds, device)}  # fmt: skip

    def ctrl(self, action: Tensor, sim: Simulation) -> Tensor:
        """Positions to hold [rad], [m], ``(N, 9)``: where the velocity leads in a step, from where the joints seem."""
        velocity = self.top_speed * action.double().clamp(-1.0, 1.0)
        position = sim.sensors["encoders"].position[:, ROBOT] + self.control_dt * velocity
        low, high = constant(self._lowest, action.device), constant(self._highest, action.device)
        return position.clamp(low, high)

    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        """What the encoders read, signal by signal."""
        position = sim.sensors["encoders"].position
        return {name: position[:, where] for name, where in self.spec.observation_slices().items()}

    def done(self, sim: Simulation) -> Tensor:
        """Whether each sub-task is done now, ``(N, 7)`` bool."""
        return metrics.distances(sim["qpos"].double()) < self.config.threshold

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """How many sub-tasks were done for the first time."""
        return {"finished": (sim.sensors["finishes"].steps == sim.steps[:, None]).sum(dim=1).double()}

    def terminated(self, sim: Simulation) -> Tensor:
        """All seven were done."""
        return (sim.sensors["finishes"].steps > 0).all(dim=1)

    def success(self, sim: Simulation) -> Tensor:
        """Enough of them were done."""
        return (sim.sensors["finishes"].steps > 0).sum(dim=1) >= self.config.enough
