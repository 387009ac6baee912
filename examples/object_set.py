"""Three objects, one batch: each world drops its own, and the worlds differ in nothing else.

Run: python examples/object_set.py [cpu | warp]
"""

from __future__ import annotations

import sys

import mujoco
import numpy as np
import torch

from fermo.envs.core.backend import make_backend
from fermo.envs.core.variants import MeshObject, compile_objects

WORLDS = 6


def box(x: float, y: float, z: float, at: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """Corners of a box with these half edges [m], shape ``(8, 3)``."""
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
    return signs * (x, y, z) + np.array(at)


def scene() -> mujoco.MjSpec:
    """A floor, and a free body that holds no object yet."""
    spec = mujoco.MjSpec()
    spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1])
    spec.worldbody.add_body(name="thing", pos=[0, 0, 0.15]).add_freejoint()
    return spec


def main(backend_name: str = "cpu") -> None:
    """Drop them for a second and print where they lie."""
    hammer = (box(0.06, 0.01, 0.01), box(0.01, 0.03, 0.02, at=(0.07, 0, 0)))
    objects = compile_objects(scene(), "thing", [
        MeshObject(name="brick", hulls=(box(0.05, 0.03, 0.02),)),
        MeshObject(name="hammer", hulls=hammer, density=2000.0),
        MeshObject(name="tile", hulls=(box(0.05, 0.05, 0.004),), density=500.0),
    ])  # fmt: skip
    backend = make_backend(backend_name, objects.model, WORLDS)
    which = torch.arange(WORLDS, device=backend.device) % len(objects.names)
    objects.apply(backend, which)
    everyone = torch.ones(WORLDS, dtype=torch.bool, device=backend.device)
    backend.forward(everyone)
    mass, height = backend.get_param("body_mass")[:, 1], backend.read("qpos")[:, 2]
    for _ in range(50):
        backend.step(torch.zeros(WORLDS, 0, device=backend.device), 10)
    backend.check()
    for world, number in enumerate(which.tolist()):
        print(
            f"world {world}: {objects.names[number]:<6} {mass[world]:.3f} kg, lies {1000 * height[world]:.1f} mm high"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
