"""The SO-101 arm on a table, with or without a cube: one scene for the tasks, the twin and the controllers."""

from __future__ import annotations

import math

import mujoco

from fermo.assets.catalogue import resolve

JOINT_NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
"""Joints and actuators, in the order of the servo ids 1 to 6; the last one moves the jaw."""

TOOL_SITE = "gripperframe"
"""Between the jaw pads; its x axis points out of the gripper."""

HOME_QPOS = (0.0, -1.0, 0.9, 1.2, 0.0, 1.0)
"""A raised pose with the gripper open, clear of the workspace [rad]."""

CUBE_HALF_SIZE = 0.015
"""Half the edge of the cube [m]."""

CUBE_MASS = 0.02
"""Mass of the cube [kg]."""

CAMERA_POSITION = (0.45, -0.30, 0.40)
"""Where the tracking camera stands [m]; the occlusion model and the rendered camera share it."""

_FLOOR, _CUBE = 1, 2  # collision bits
_JAW_PADS = ("fixed_jaw_pad", "moving_jaw_pad")
_PAD_FRICTION = (1.0, 0.005, 0.0001)


def so101_scene(*, with_cube: bool = True, timestep: float = 0.005) -> mujoco.MjSpec:
    """An editable model: the arm at the origin facing +x, a floor, a camera and, if asked, a free cube.

    The jaw pads come inert from the catalogue (collision bit 2) and are enabled here, since the hulls of the jaw meshes
    alone cannot hold anything. Robot geoms collide with the world but not with one another.

    Args:
        with_cube: Add a 3 cm, 20 g cube called ``"cube"`` on a free joint.
        timestep: Physics step [s].
    """
    spec = mujoco.MjSpec.from_file(str(resolve("so101")))
    spec.option.timestep = timestep
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # A pyramidal cone lets a held cube creep out of the jaw within seconds.
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0
    spec.visual.global_.offwidth, spec.visual.global_.offheight = 640, 480
    _choose_contacts(spec)
    _add_surroundings(spec)
    if with_cube:
        _add_cube(spec)
    _add_tool_sensors(spec)
    return spec


def _choose_contacts(spec: mujoco.MjSpec) -> None:
    """The cube meets pads and floor, the links meet the floor, and no part of the robot meets another.

    The convex hulls of the jaw meshes fill the space between the jaws, so a cube must not meet them.
    """
    for geom in spec.geoms:
        if geom.name in _JAW_PADS:
            geom.condim, geom.friction = 4, _PAD_FRICTION
            geom.contype, geom.conaffinity = 0, _CUBE | _FLOOR
        elif geom.classname.name == "collision":
            geom.contype, geom.conaffinity = 0, _FLOOR


def _add_surroundings(spec: mujoco.MjSpec) -> None:
    world = spec.worldbody
    _add_floor_pattern(spec)
    world.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1.0, 1.0, 0.01], material="floor",
                   contype=_FLOOR, conaffinity=0)  # fmt: skip
    world.add_light(name="sun", pos=[0.3, -0.5, 1.5], dir=[0.0, 0.3, -1.0], castshadow=False)
    look = [target - eye for target, eye in zip((0.16, 0.0, 0.06), CAMERA_POSITION, strict=True)]
    world.add_camera(name="front", pos=list(CAMERA_POSITION), quat=_look_along(look), fovy=48.0)


def _add_floor_pattern(spec: mujoco.MjSpec) -> None:
    """Squares of 10 cm, so that pictures show scale."""
    spec.add_texture(
        name="floor", type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
        rgb1=[0.86, 0.88, 0.91], rgb2=[0.78, 0.81, 0.85], width=64, height=64,
    )  # fmt: skip
    textures = ["" for _ in range(mujoco.mjtTextureRole.mjNTEXROLE)]
    textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = "floor"
    spec.add_material(name="floor", textures=textures, texuniform=True, texrepeat=[5.0, 5.0], specular=0.1)


def _add_cube(spec: mujoco.MjSpec) -> None:
    body = spec.worldbody.add_body(name="cube", pos=[0.2, 0.0, CUBE_HALF_SIZE])
    body.add_freejoint(name="cube")
    body.add_geom(
        name="cube",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=[CUBE_HALF_SIZE] * 3,
        mass=CUBE_MASS,
        condim=4,
        contype=_CUBE,
        conaffinity=_FLOOR,
        friction=_PAD_FRICTION,
        rgba=[0.85, 0.25, 0.20, 1.0],
    )


def _add_tool_sensors(spec: mujoco.MjSpec) -> None:
    for name, kind in (("tool_position", "FRAMEPOS"), ("tool_quaternion", "FRAMEQUAT")):
        spec.add_sensor(
            name=name,
            type=getattr(mujoco.mjtSensor, f"mjSENS_{kind}"),
            objtype=mujoco.mjtObj.mjOBJ_SITE,
            objname=TOOL_SITE,
        )


def _look_along(direction: list[float]) -> list[float]:
    """Quaternion (w, x, y, z) of a camera (looking along its own -z, y up) that looks along `direction`."""
    x, y, z = direction
    yaw = math.atan2(-x, y)  # about the world's z
    pitch = math.atan2(z, math.hypot(x, y)) + math.pi / 2  # about the camera's x; 0 looks straight down
    cy, sy, cp, sp = math.cos(yaw / 2), math.sin(yaw / 2), math.cos(pitch / 2), math.sin(pitch / 2)
    return [cy * cp, cy * sp, sy * sp, sy * cp]
