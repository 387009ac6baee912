"""The kitchen of the relay benchmark with its Franka arm, out of gymnasium-robotics' wheel.

A. Gupta et al., "Relay policy learning", CoRL 2019; the package's port of it is what the catalogue fetches.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import mujoco

from fermo.assets.catalogue import resolve

TOOL_SITE = "end_effector"
"""Between the finger tips; z points out of the hand, the fingers open along y."""

HAND_BODY = "panda0_link7"
"""The last link, to which the hand is fixed."""

ARM_JOINTS = tuple(f"robot:panda0_joint{i}" for i in range(1, 8))
FINGER_JOINTS = ("robot:panda0_finger_joint1", "robot:panda0_finger_joint2")


def kitchen_scene() -> mujoco.MjSpec:
    """An editable model: arm, microwave, kettle, stove with four knobs, light switch, a sliding and a hinged cabinet.

    What is only to be looked at is left out. Masses and inertias come from the geoms that collide, so that the model
    moves bitwise as the whole one does; it compiles two hundred times faster.
    """
    spec = mujoco.MjSpec.from_file(str(resolve("franka_kitchen")))
    _delete(spec, (geom for geom in spec.geoms if not geom.contype and not geom.conaffinity))
    _delete_unused_meshes(spec)
    for geom in spec.geoms:
        geom.material = ""
    for elements in (spec.lights, spec.materials, spec.textures):
        _delete(spec, elements)
    return spec


def kitchen_picture() -> mujoco.MjSpec:
    """The whole kitchen to be looked at; the arm by its collision hulls, since its other meshes have 140 000 faces."""
    spec = mujoco.MjSpec.from_file(str(resolve("franka_kitchen")))
    _delete(spec, (geom for geom in spec.geoms if geom.meshname.endswith("_viz")))
    _delete_unused_meshes(spec)
    return spec


def joint_specifications(field: str) -> list[tuple[float, ...]]:
    """What the package's configuration of the robot says of each degree of freedom, in the model's order.

    Args:
        field: ``"pos_bound"``, ``"vel_bound"`` or ``"pos_noise_amp"``.
    """
    path = Path(resolve("franka_kitchen")).parents[1] / "franka_assets" / "franka_config.xml"
    entries = ElementTree.parse(path).getroot()
    return [tuple(map(float, entry.attrib[field].split())) for entry in entries]


def _delete(spec: mujoco.MjSpec, elements: Iterable) -> None:
    for element in list(elements):
        spec.delete(element)


def _delete_unused_meshes(spec: mujoco.MjSpec) -> None:
    used = {geom.meshname for geom in spec.geoms}
    _delete(spec, (mesh for mesh in spec.meshes if mesh.name not in used))
