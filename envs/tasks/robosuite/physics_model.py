"""robosuite's model without what takes no part in physics: most geoms, and every texture, camera and light.

Masses and inertias are those that the whole model compiles to, so states evolve bitwise the same, in two thirds of the
time.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import mujoco
import numpy as np

from fermo.envs.adapters.robosuite import load_scene


@functools.cache
def whole_model(environment: str, sizes: tuple[tuple[str, tuple[float, ...]], ...] = ()) -> mujoco.MjModel:
    """The model that robosuite compiles.

    Args:
        environment: robosuite's name, for example ``"Lift"``.
        sizes: Geoms to give another size [m], by name.
    """
    spec = mujoco.MjSpec.from_string(load_scene(environment).xml)
    for name, size in sizes:
        spec.geom(name).size = size
    return spec.compile()


def physics_spec(environment: str, sites: Iterable[str],
                 sizes: tuple[tuple[str, tuple[float, ...]], ...] = ()) -> mujoco.MjSpec:  # fmt: skip
    """The same model, of which only `sites` and what moves or collides is left; it keeps `qpos` and body numbers."""
    whole = whole_model(environment, sizes)
    spec = mujoco.MjSpec.from_string(load_scene(environment).xml)
    for name, size in sizes:
        spec.geom(name).size = size
    for body in spec.bodies[1:]:
        number = whole.body(body.name).id
        body.explicitinertial = True
        body.mass, body.inertia = whole.body_mass[number], whole.body_inertia[number]
        body.ipos, body.iquat = whole.body_ipos[number], whole.body_iquat[number]
        body.fullinertia = np.full(6, np.nan)
    kept = set(sites)
    _delete(spec, (geom for geom in spec.geoms if not geom.contype and not geom.conaffinity))
    _delete(spec, (site for site in spec.sites if site.name not in kept))
    meshes = {geom.meshname for geom in spec.geoms}
    _delete(spec, (mesh for mesh in spec.meshes if mesh.name not in meshes))
    for geom in spec.geoms:
        geom.material = ""
    for elements in (spec.sensors, spec.cameras, spec.lights, spec.materials, spec.textures):
        _delete(spec, elements)
    return spec


def add_touch_sensor(spec: mujoco.MjSpec, name: str, first: str, second: str) -> None:
    """A sensor that is positive where a geom or body `first` touches the body `second`, as the last step saw it."""
    is_geom = spec.geom(first) is not None
    kind = mujoco.mjtObj.mjOBJ_GEOM if is_geom else mujoco.mjtObj.mjOBJ_BODY
    found, reduce, slots = 1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND), 0, 1
    spec.add_sensor(name=name, type=mujoco.mjtSensor.mjSENS_CONTACT, objtype=kind, objname=first,
                    reftype=mujoco.mjtObj.mjOBJ_BODY, refname=second, intprm=[found, reduce, slots])  # fmt: skip


def _delete(spec: mujoco.MjSpec, elements: Iterable) -> None:
    for element in list(elements):
        spec.delete(element)
