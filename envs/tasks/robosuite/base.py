"""What robosuite's environments with the Panda share: arm, gripper, controller, proprioception, clock."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import torch
from torch import Tensor

from fermo.envs.adapters.robosuite import load_scene
from fermo.envs.core.backend import BackendError
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Simulation, Task
from fermo.envs.tasks.robosuite.physics_model import add_touch_sensor, physics_spec, whole_model
from fermo.envs.tasks.robosuite.placement import place
from fermo.envs.tasks.robosuite.rotations import quaternion_of, scalar_last
from fermo.errors import FermoError
from fermo.signal import PlantSpec, Signal

_ARM = slice(0, 7)
_FINGERS = slice(7, 9)
_POSTURE_STIFFNESS = 10.0  # robosuite's, written into its null space function


@dataclass(frozen=True, kw_only=True)
class RobosuiteConfig:
    """Arguments every environment has; names and defaults are robosuite's.

    Attributes:
        reward_shaping: Pay for progress too, not for success alone.
        reward_scale: Reward of success.
        horizon: Actions after which an episode is truncated.
    """

    reward_shaping: bool = False
    reward_scale: float = 1.0
    horizon: int = 1000

    def __post_init__(self) -> None:
        if self.horizon < 1:
            raise FermoError(f"horizon must be at least 1, got {self.horizon}")


class RobosuiteTask(Task):
    """An environment of robosuite with the Panda and its default controller.

    As in robosuite, derived quantities are read as the last physics step left them, hence no refresh.

    Attributes:
        environment: robosuite's name of it.
        sites: Sites that observation or reward read, beside the tool's.
        touches: Pairs of bodies whose contact the reward reads; ``"pads"`` stands for the two finger pads.
    """

    dtype = torch.float64
    refresh = False
    config: RobosuiteConfig
    environment: str
    sites: tuple[str, ...] = ()
    touches: tuple[tuple[str, str], ...] = ()
    sizes: tuple[tuple[str, tuple[float, ...]], ...] = ()

    def __init__(self, config: RobosuiteConfig) -> None:
        self.config = config
        self.scene = load_scene(self.environment)
        sites = (self.scene.tool_site, self.scene.base_site, *self.sites)
        self._spec = physics_spec(self.environment, sites, self.sizes)
        self._add_touch_sensors(self._spec)
        self.model = self._spec.compile()
        self.substeps = self.scene.substeps
        self.max_steps = config.horizon
        self._tool = self.model.site(self.scene.tool_site).id
        self._hand = self.model.body(self.scene.hand_body).id
        self._finger_range = torch.from_numpy(self.model.actuator_ctrlrange[_FINGERS].copy())
        commands = (
            Signal.uniform(name="tool_motion", shape=(6,), unit="1", low=-1.0, high=1.0,
                           description="tool translation and rotation in the base frame: 1 is 5 cm, 0.5 rad"),
            Signal.uniform(name="gripper", shape=(1,), unit="1", low=-1.0, high=1.0,
                           description="the sign opens (-) or closes (+)"),
        )  # fmt: skip
        self.spec = PlantSpec(observations=_PROPRIOCEPTION + self.object_signals(), commands=commands,
                              rate_hz=1.0 / self.control_dt)  # fmt: skip

    @abstractmethod
    def object_signals(self) -> tuple[Signal, ...]:
        """What is observed beside the robot."""

    @abstractmethod
    def object_observation(self, sim: Simulation) -> dict[str, Tensor]:
        """The values of `object_signals`."""

    def engine_model(self, backend: str) -> mujoco.MjModel:
        """The model with the arm's controller in its physics step."""
        if backend != "cpu":
            raise BackendError(f"{self.name} runs on the cpu back end: its controller is code inside MuJoCo's own step")
        from fermo.envs.tasks.robosuite.arm_plugin import ArmParameters, add_arm_controller  # numba is an extra

        data = mujoco.MjData(self.model)
        mujoco.mj_kinematics(self.model, data)
        base, scene = data.site(self.scene.base_site), self.scene
        parameters = ArmParameters(
            timestep=self.model.opt.timestep, substeps=self.substeps, tool_site=self._tool,
            root_body=int(self.model.body_rootid[self._hand]), base_position=tuple(base.xpos),
            base_rotation=tuple(base.xmat), scale=scene.scale, stiffness=scene.stiffness, damping=scene.damping,
            posture_stiffness=_POSTURE_STIFFNESS,
        )  # fmt: skip
        spec = self._spec.copy()
        add_arm_controller(spec, parameters)
        return spec.compile()

    def picture_model(self) -> mujoco.MjModel:
        """The model that robosuite itself compiles, with all its visual geoms."""
        return whole_model(self.environment, self.sizes)

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """Noise on the arm's joints, objects where robosuite's samplers may put them, everything at rest."""
        noise = random.normal("initial arm", (7,))
        qpos = torch.as_tensor(self.model.qpos0, device=noise.device).repeat(len(noise), 1)
        qpos[:, _ARM] = noise.new_tensor(self.scene.arm_position) + self.scene.arm_noise * noise
        qpos[:, _FINGERS] = noise.new_tensor(self.scene.finger_position)
        for item, pose in zip(self.scene.placements, place(self.scene.placements, random), strict=True):
            if item.joint is not None:
                start = self.model.joint(item.joint).qposadr[0]
                qpos[:, start : start + 7] = pose
        return qpos, torch.zeros(len(noise), self.model.nv, dtype=qpos.dtype, device=qpos.device)

    def ctrl(self, action: Tensor, sim: Simulation) -> Tensor:
        """The arm's action as it is, the controller switched on, the fingers a step further.

        The gripper's command remembers itself: it is read off the last controls. After a reset all controls are zero,
        the switch among them, and the command begins half way.
        """
        last = sim["ctrl"]
        low, high = self._finger_range.to(last.device).unbind(dim=1)
        middle, half = 0.5 * (high + low), 0.5 * (high - low)
        opening = torch.where(last[:, 6:7] == 0.0, 0.0, (last[:, _FINGERS] - middle) / half)
        direction = last.new_tensor((-self.scene.finger_speed, self.scene.finger_speed))
        opening = (opening + direction * action[:, 6:].to(last.dtype).sign()).clamp(-1.0, 1.0)
        arm = torch.nn.functional.pad(action[:, :6].to(last.dtype), (0, 1), value=1.0)
        return torch.cat([arm, middle + half * opening], dim=1)

    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        """The robot's signals, then the objects', in robosuite's order."""
        qpos, qvel = sim["qpos"], sim["qvel"]
        joints = qpos[:, _ARM]
        terms = {
            "joint_pos": joints,
            "joint_pos_cos": joints.cos(),
            "joint_pos_sin": joints.sin(),
            "joint_vel": qvel[:, _ARM],
            "joint_acc": sim["qacc"][:, _ARM],
            "eef_pos": self.tool_position(sim),
            "eef_quat": self.hand_quaternion(sim),
            "eef_quat_site": quaternion_of(sim["site_xmat"][:, self._tool].reshape(-1, 3, 3)).to(qpos.dtype),
            "gripper_qpos": qpos[:, _FINGERS],
            "gripper_qvel": qvel[:, _FINGERS],
        }
        return terms | self.object_observation(sim)

    def tool_position(self, sim: Simulation) -> Tensor:
        """Between the finger tips, ``(N, 3)`` [m]."""
        return sim["site_xpos"][:, self._tool]

    def hand_quaternion(self, sim: Simulation) -> Tensor:
        """Orientation of the hand, x y z w ``(N, 4)``."""
        return scalar_last(sim["xquat"][:, self._hand])

    def body_position(self, sim: Simulation, name: str) -> Tensor:
        """``(N, 3)`` [m]."""
        return sim["xpos"][:, self.model.body(name).id]

    def body_quaternion(self, sim: Simulation, name: str) -> Tensor:
        """Components x y z w, ``(N, 4)``."""
        return scalar_last(sim["xquat"][:, self.model.body(name).id])

    def site_position(self, sim: Simulation, name: str) -> Tensor:
        """``(N, 3)`` [m]."""
        return sim["site_xpos"][:, self.model.site(name).id]

    def touching(self, sim: Simulation, first: str, second: str) -> Tensor:
        """Whether two bodies of `touches` are in contact, ``(N,)`` bool; both pads, where `first` is ``"pads"``."""
        parts = range(len(self._touch_at[first, second]))
        return functools.reduce(torch.logical_and, (self.part_touching(sim, first, second, part) for part in parts))

    def part_touching(self, sim: Simulation, first: str, second: str, part: int) -> Tensor:
        """The same for one part of `first`, a pad for example."""
        return sim["sensordata"][:, self._touch_at[first, second][part]] > 0

    @functools.cached_property
    def _touch_at(self) -> dict[tuple[str, str], list[int]]:
        """Where each pair's sensors lie in ``sensordata``."""
        return {
            pair: [int(self.model.sensor(_touch_name(part, pair[1])).adr[0]) for part in self._parts(pair[0])]
            for pair in self.touches
        }

    def _add_touch_sensors(self, spec: mujoco.MjSpec) -> None:
        for first, second in self.touches:
            for part in self._parts(first):
                add_touch_sensor(spec, _touch_name(part, second), part, second)

    def _parts(self, name: str) -> Sequence[str]:
        return self.scene.pads if name == "pads" else (name,)


def _touch_name(first: str, second: str) -> str:
    return f"{first} touches {second}"


def pose_signals(**sizes: int) -> tuple[Signal, ...]:
    """Signals by name and size: positions have three numbers [m], quaternions x y z w four, joint angles one [rad]."""
    return tuple(_signal(name, size, {1: "rad", 3: "m", 4: "1"}[size]) for name, size in sizes.items())


def _signal(name: str, size: int, unit: str, description: str = "") -> Signal:
    return Signal.uniform(name=name, shape=(size,), unit=unit, description=description)


_PROPRIOCEPTION = (
    _signal("joint_pos", 7, "rad"),
    _signal("joint_pos_cos", 7, "1"),
    _signal("joint_pos_sin", 7, "1"),
    _signal("joint_vel", 7, "rad/s"),
    _signal("joint_acc", 7, "rad/s^2"),
    _signal("eef_pos", 3, "m", "between the finger tips"),
    _signal("eef_quat", 4, "1", "of the hand, x y z w"),
    _signal("eef_quat_site", 4, "1", "of the tool, x y z w"),
    _signal("gripper_qpos", 2, "m"),
    _signal("gripper_qvel", 2, "m/s"),
)
