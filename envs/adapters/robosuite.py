"""What robosuite knows of its environments with the Panda: model, controller, reset distribution.

robosuite builds and compiles an environment once; nothing is simulated in it afterwards.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from fermo.envs.adapters import mujoco_compat
from fermo.errors import FermoError


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where one object may stand when an episode begins, as robosuite's ``UniformRandomSampler`` has it.

    Attributes:
        body: The object's root body.
        joint: Its free joint; None where the object is fixed to the world.
        x: Range about the reference [m].
        y: Range about the reference [m].
        angle: Range of the rotation about the vertical [rad].
        reference: Position on the table that the ranges are about [m].
        lift: Height of the object's lowest point above the reference [m].
        radius: Of the object, seen from above [m].
        bottom: Lowest point, from the object's origin [m].
        top: Highest point, from the object's origin [m].
    """

    body: str
    joint: str | None
    x: tuple[float, float]
    y: tuple[float, float]
    angle: tuple[float, float]
    reference: tuple[float, ...]
    lift: float
    radius: float
    bottom: float
    top: float


@dataclass(frozen=True, kw_only=True)
class RobosuiteScene:
    """One environment of robosuite, as data.

    Attributes:
        xml: The model that robosuite compiles.
        placements: Objects in the order in which they are placed.
        timestep: Of the physics [s].
        substeps: Physics steps per action.
        arm_position: Joint positions that an episode begins about [rad].
        arm_noise: Standard deviation about them [rad].
        finger_position: Of the gripper's joints [m].
        tool_site: Site at the tool's centre.
        base_site: Site whose frame actions are given in.
        hand_body: Body whose orientation is observed.
        pads: The two geoms between which things are grasped.
        scale: Movement of a full action [m, rad], six numbers.
        stiffness: The controller's gains on errors [1/s^2], six numbers.
        damping: The controller's gains on velocities [1/s], six numbers.
        finger_speed: How far a control step moves the gripper's command, of its whole range -1 to 1.
    """

    xml: str
    placements: tuple[Placement, ...]
    timestep: float
    substeps: int
    arm_position: tuple[float, ...]
    arm_noise: float
    finger_position: tuple[float, ...]
    tool_site: str
    base_site: str
    hand_body: str
    pads: tuple[str, str]
    scale: tuple[float, ...]
    stiffness: tuple[float, ...]
    damping: tuple[float, ...]
    finger_speed: float


def make_robosuite(environment: str, **arguments: Any) -> Any:
    """The environment of robosuite itself, with the Panda, without cameras, and without what it prints.

    Args:
        environment: robosuite's name of it, for example ``"Lift"``.
        **arguments: Of that environment, for example ``reward_shaping=True``.

    Raises:
        FermoError: robosuite is not installed, or refuses the arguments.
    """
    if find_spec("robosuite") is None:
        raise FermoError("robosuite's tasks need robosuite: pip install 'fermo[robosuite]'")
    mujoco_compat.install()
    with quietly():
        import robosuite

        try:
            return robosuite.make(environment, robots="Panda", has_renderer=False, has_offscreen_renderer=False,
                                  use_camera_obs=False, **arguments)  # fmt: skip
        except (TypeError, AssertionError) as error:
            raise FermoError(f"robosuite cannot make {environment} so: {error}") from error


@functools.cache
def load_scene(environment: str) -> RobosuiteScene:
    """The environment called `environment` as data, with robosuite's default controller; built once in a process.

    Raises:
        FermoError: robosuite is not installed.
    """
    env = make_robosuite(environment, seed=0)
    (robot,) = env.robots
    arm, gripper = robot.part_controllers["right"], robot.gripper["right"]
    scene = RobosuiteScene(
        xml=env.edit_model_xml(env.model.get_xml()),
        placements=tuple(_placements(env.placement_initializer)),
        timestep=env.model_timestep,
        substeps=int(env.control_timestep / env.model_timestep),
        arm_position=tuple(robot.init_qpos),
        arm_noise=robot.initialization_noise["magnitude"],
        finger_position=tuple(gripper.init_qpos),
        tool_site=arm.ref_name,
        base_site=f"{arm.naming_prefix}{arm.part_name}_center",
        hand_body=robot.robot_model.eef_name["right"],
        pads=tuple(gripper.important_geoms[side][0] for side in ("left_fingerpad", "right_fingerpad")),  # type: ignore[arg-type]
        scale=tuple(arm.output_max),
        stiffness=tuple(arm.kp),
        damping=tuple(arm.kd),
        finger_speed=gripper.speed,
    )
    env.close()
    return scene


def _placements(sampler: Any) -> Iterator[Placement]:
    """What the sampler, or each of those that it is made of, says."""
    for part in getattr(sampler, "samplers", {"": sampler}).values():
        for thing in part.mujoco_objects:
            yield Placement(
                body=thing.root_body,
                joint=thing.joints[0] if _is_free(thing) else None,
                x=tuple(part.x_range),
                y=tuple(part.y_range),
                angle=(0.0, 2.0 * math.pi) if part.rotation is None else (min(part.rotation), max(part.rotation)),
                reference=tuple(map(float, part.reference_pos)),
                lift=part.z_offset,
                radius=float(thing.horizontal_radius),
                bottom=float(thing.bottom_offset[2]),
                top=float(thing.top_offset[2]),
            )


def _is_free(thing: Any) -> bool:
    return thing.get_obj().find("./joint[@type='free']") is not None or thing.get_obj().find("./freejoint") is not None


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Silence: robosuite speaks of optional packages and settings whenever it is imported or makes something.

    ``MUJOCO_GL`` stays as it is, too: robosuite sets it, after MuJoCo has chosen its OpenGL by what it was.
    """
    before, opengl = logging.root.manager.disable, os.environ.get("MUJOCO_GL")
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
        if opengl is None:
            os.environ.pop("MUJOCO_GL", None)
        else:
            os.environ["MUJOCO_GL"] = opengl
