"""A scripted expert for PickCube: a smooth function of the observation, so that a memoryless policy can imitate it.

Nothing here counts time. Where in the task the arm is follows from what is observed: how far the tool is from the
grasp decides how high it flies and how far the jaw opens, and how far the jaw has closed decides whether to lift.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fermo.assets.scenes.so101 import CUBE_HALF_SIZE, HOME_QPOS, TOOL_SITE
from fermo.controllers.inverse_kinematics import InverseKinematics, InverseKinematicsConfig
from fermo.controllers.kinematics import SerialChain
from fermo.envs.tasks.so101_pick_cube import PickCube
from fermo.training.demos.ramp import ramp


@dataclass(frozen=True, kw_only=True)
class PickCubeExpertConfig:
    """Geometry and pace of the grasp.

    Attributes:
        hover: Height of the approach above the grasp [m].
        funnel: Horizontal distances between which the tool descends from `hover` to the grasp [m].
        yaw_weight: Sideways distance that one radian of yaw error counts as in the funnel [m/rad].
        pad_offset: From the tool point to the face of the fixed jaw pad, along the closing direction [m].
        clearance: Gap between the fixed pad and the cube while the jaw is open [m].
        jaw_open: Jaw angle during the approach [rad].
        jaw_closed: Commanded jaw angle of the grasp; below the angle of contact, so that the jaw presses [rad].
        jaw_contact: Jaw angles between which a jaw goes from closed, on the cube or on nothing, to open [rad].
        close_range: Distances from the grasp between which the jaw goes from closed to open [m].
        held_sideways: Horizontal distances from the grasp between which a held cube counts as lost [m].
        held_above: Heights of the tool over the cube between which a held cube counts as lost [m].
        max_rise: Largest distance of the target's height from the tool's, either way [m].
        lift_height: Height of the tool at the end [m].
        lift_reach: Distances from the base axis between which the tool is lifted [m].
        gain: Share of the way to the goal that the commanded angle leads the measured one; the rest of the smoothness.
        jaw_gain: The same for the jaw; with `jaw_closed` it sets how hard a held cube is pressed.
        yaw_gain: Share of the turn to the cube's face that one look aims at.
        max_lead: Largest distance of a goal angle from the measured one [rad].
        stiffness: Servo stiffness assumed when compensating gravity [N m/rad].
    """

    hover: float = 0.06
    funnel: tuple[float, float] = (0.006, 0.035)
    yaw_weight: float = 0.04
    pad_offset: float = 0.0064
    clearance: float = 0.008
    jaw_open: float = 0.95
    jaw_closed: float = -0.10
    jaw_contact: tuple[float, float] = (0.28, 0.50)
    close_range: tuple[float, float] = (0.006, 0.022)
    held_sideways: tuple[float, float] = (0.045, 0.065)
    held_above: tuple[float, float] = (0.06, 0.08)
    max_rise: float = 0.02
    lift_height: float = 0.10
    lift_reach: tuple[float, float] = (0.17, 0.22)
    gain: float = 0.5
    jaw_gain: float = 0.3
    yaw_gain: float = 0.6
    max_lead: float = 0.12
    stiffness: float = 17.8


class PickCubeExpert:
    """Goal angles from observations, batched.

    Args:
        task: Whose model and signals to use.
        config: Geometry and pace.
    """

    def __init__(self, task: PickCube, config: PickCubeExpertConfig | None = None) -> None:
        self.config = config or PickCubeExpertConfig()
        self.slices = task.spec.observation_slices()
        self.chain = SerialChain.from_model(task.model, TOOL_SITE)
        rest = torch.tensor(HOME_QPOS[:5], dtype=torch.float64)
        self.ik = InverseKinematics(self.chain, rest, InverseKinematicsConfig(iterations=6))

    def __call__(self, obs: Tensor) -> Tensor:
        """Goal angles ``(N, 6)`` [rad] for observations ``(N, 11)``."""
        c = self.config
        obs = obs.to(torch.float64)
        q = obs[:, self.slices["joint_position"]]
        cube, heading = obs[:, self.slices["cube_position"]], obs[:, self.slices["cube_heading"]]
        arm, jaw = q[:, :5], q[:, 5]
        tool, tool_rotation, _ = self.chain.forward(arm)

        jaw_yaw = torch.atan2(tool_rotation[:, 1, 2], tool_rotation[:, 0, 2])
        rotation = _top_down(jaw_yaw + c.yaw_gain * _turn_to_face(heading, jaw_yaw))
        openness = ((jaw - c.jaw_contact[0]) / (c.jaw_open - c.jaw_contact[0])).clamp(0.0, 1.0)
        reach = c.pad_offset + CUBE_HALF_SIZE + c.clearance * openness
        grasp = cube - reach[:, None] * rotation[:, :, 2]
        grasp = torch.cat([grasp[:, :2], torch.full_like(jaw, CUBE_HALF_SIZE)[:, None]], dim=1)

        off = tool - grasp
        sideways, above = off[:, :2].norm(dim=1), tool[:, 2] - cube[:, 2]
        closed = 1.0 - ramp(jaw, *c.jaw_contact)
        # A jaw that has begun to close goes on closing where an open one would not yet begin.
        at_grasp = 1.0 - ramp(off.norm(dim=1), *((2.0 - openness) * limit for limit in c.close_range))
        # A held cube is seen late, so a closed jaw may run a little ahead of it.
        at_held = 1.0 - torch.maximum(ramp(sideways, *c.held_sideways), ramp(above, *c.held_above))
        near = torch.lerp(at_grasp, torch.maximum(at_grasp, at_held), closed)
        # A closed jaw rises whether it holds the cube or not; if not, the cube falls behind and the jaw opens.
        lift = closed**2

        misaligned = (tool_rotation[:, :, 2] - rotation[:, :, 2]).norm(dim=1) / c.yaw_gain
        approach = CUBE_HALF_SIZE + c.hover * ramp(sideways + c.yaw_weight * misaligned, *c.funnel)
        height = torch.lerp(approach, torch.full_like(jaw, c.lift_height), lift)
        height = tool[:, 2] + (height - tool[:, 2]).clamp(-c.max_rise, c.max_rise)
        # Lifting aims at a fixed reach along the present azimuth: the cube now follows the tool and not the reverse.
        carried = tool[:, :2] * (tool[:, :2].norm(dim=1).clamp(*c.lift_reach) / tool[:, :2].norm(dim=1))[:, None]
        target = torch.cat([torch.lerp(grasp[:, :2], carried, lift[:, None]), height[:, None]], dim=1)
        goal = self.ik.solve(target, rotation, arm)
        sag = self.chain.gravity_torque(arm) / c.stiffness
        command = arm + (c.gain * (goal - arm)).clamp(-c.max_lead, c.max_lead) + sag
        jaw_goal = torch.lerp(torch.full_like(jaw, c.jaw_open), torch.full_like(jaw, c.jaw_closed), near)
        jaw_command = jaw + (c.jaw_gain * (jaw_goal - jaw)).clamp(-2.0 * c.max_lead, 2.0 * c.max_lead)
        return torch.cat([command, jaw_command[:, None]], dim=1)


def _turn_to_face(heading: Tensor, yaw: Tensor) -> Tensor:
    """How far to turn from `yaw` towards the nearest of the cube's four equal yaws, shape ``(N,)`` [rad].

    With d the angle to it, sin(4 d) / 4 equals d to third order, and unlike d does not jump where two of the four are
    equally near: there it vanishes and any small turn grows.
    """
    c, s = torch.cos(4 * yaw), torch.sin(4 * yaw)
    return (heading[:, 1] * c - heading[:, 0] * s) / 4.0


def _top_down(yaw: Tensor) -> Tensor:
    """Tool rotations ``(N, 3, 3)`` that point down (tool x) and close the jaw along `yaw` (tool z)."""
    zero, one = torch.zeros_like(yaw), torch.ones_like(yaw)
    down = torch.stack([zero, zero, -one], dim=1)
    closing = torch.stack([torch.cos(yaw), torch.sin(yaw), zero], dim=1)
    return torch.stack([down, torch.linalg.cross(closing, down, dim=1), closing], dim=2)
