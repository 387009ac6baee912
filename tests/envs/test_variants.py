"""Object sets: world i of a batch moves as a plain simulation of its own object."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

from fermo.envs.core.backend import BackendError, make_backend
from fermo.envs.core.variants import MeshObject, ObjectSet, compile_objects
from fermo.errors import FermoError
from tests.envs.no_sync import no_sync

torch.set_num_threads(1)


def box(x: float, y: float, z: float, at: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    signs = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1]), axis=-1).reshape(-1, 3)
    return signs * (x, y, z) + np.array(at)


OBJECTS = (
    MeshObject(name="brick", hulls=(box(0.03, 0.02, 0.05),), density=400.0),
    MeshObject(name="hammer", hulls=(box(0.06, 0.01, 0.01), box(0.01, 0.03, 0.02, at=(0.07, 0, 0)))),
    MeshObject(name="wedge", hulls=(np.array([[0, 0, 0], [0.08, 0, 0], [0, 0.06, 0], [0, 0, 0.05]]),), density=700.0),
)
WHICH = torch.tensor([1, 0, 2, 1])
N = len(WHICH)


def scene() -> mujoco.MjSpec:
    spec = mujoco.MjSpec()
    spec.option.timestep = 0.004
    spec.worldbody.add_geom(name="floor", type=mujoco.mjtGeom.mjGEOM_PLANE, size=[1, 1, 0.1])
    spec.worldbody.add_body(name="thing", pos=[0, 0, 0.12]).add_freejoint()
    return spec


@pytest.fixture(scope="module")
def objects() -> ObjectSet:
    return compile_objects(scene(), "thing", OBJECTS)


def alone(thing: MeshObject) -> mujoco.MjModel:
    """The same object compiled by itself, with neither slots nor other meshes."""
    return compile_objects(scene(), "thing", [thing]).model


@pytest.mark.parametrize("name", ["cpu", "warp"])
def test_each_world_moves_as_a_plain_simulation_of_its_object(name: str, objects: ObjectSet) -> None:
    options = {"device": "cpu", "varying": objects.varying} if name == "warp" else {"num_threads": 1}
    backend = make_backend(name, objects.model, N, **options)
    everyone = torch.ones(N, dtype=torch.bool)
    objects.apply(backend, WHICH)
    qpos = torch.tensor(objects.model.qpos0).repeat(N, 1)
    qvel = torch.tensor([0.2, 0, 0, 0, 2.0, 1.0]).repeat(N, 1)
    backend.reset(everyone, qpos, qvel)
    backend.forward(everyone)
    plain = []
    for index in WHICH.tolist():
        data = mujoco.MjData(alone(OBJECTS[index]))
        data.qvel[:] = qvel[0]
        plain.append(data)
    touched = [False] * N
    for step in range(60):
        backend.step(torch.zeros(N, 0), 4)
        for world, data in enumerate(plain):
            mujoco.mj_step(data.model, data, 4)
            now = backend.read("qpos")[world].double().numpy()
            if name == "cpu":
                np.testing.assert_array_equal(now, data.qpos, err_msg=f"world {world}, step {step}")
            elif not touched[world]:  # float32, at most 4 substeps of free flight at a time of order 1 m/s
                np.testing.assert_allclose(now, data.qpos, atol=2e-5, err_msg=f"world {world}, step {step}")
            touched[world] = touched[world] or data.ncon > 0
    backend.check()
    assert all(touched)
    # After the hit single precision decides between tumbles; where it comes to rest it lies on the floor all the same.
    lowest = np.array([data.geom_xpos[1, 2] for data in plain])
    np.testing.assert_allclose(backend.read("geom_xpos")[:, 1, 2], lowest, atol=0.0 if name == "cpu" else 0.03)
    assert backend.failed.sum() == 0


@pytest.mark.parametrize("name", ["cpu", "warp"])
def test_constants_are_those_of_the_compiler(name: str, objects: ObjectSet) -> None:
    backend = make_backend(name, objects.model, N, **({"device": "cpu"} if name == "warp" else {}))
    objects.apply(backend, WHICH)
    for world, index in enumerate(WHICH.tolist()):
        compiled, world_model = objects.models[index], backend.world_model(world)
        for field in ("body_mass", "body_subtreemass", "body_inertia", "body_invweight0", "dof_invweight0",
                      "geom_pos", "geom_rbound", "geom_aabb", "geom_dataid"):  # fmt: skip
            np.testing.assert_allclose(getattr(world_model, field), getattr(compiled, field), rtol=1e-4, atol=1e-7,
                                       err_msg=field)  # fmt: skip
        used = len(OBJECTS[index].hulls)
        assert (world_model.geom_contype[1:] > 0).sum() == used


def test_an_object_can_be_swapped_inside_a_graph(objects: ObjectSet) -> None:
    backend = make_backend("warp", objects.model, N, device="cpu", varying=objects.varying)
    mask = torch.tensor([True, False, False, False])
    objects.apply(backend, WHICH)
    version, mass = backend.version, backend.get_param("body_mass")[:, 1].clone()
    with no_sync():
        objects.apply(backend, torch.full_like(WHICH, 2), mask)
    backend.check()
    assert backend.version == version
    now = backend.get_param("body_mass")[:, 1]
    assert now[0] == mass[2] and torch.equal(now[1:], mass[1:])


def test_a_later_change_of_mass_keeps_the_bounds_of_the_meshes(objects: ObjectSet) -> None:
    """MuJoCo's own mj_setConst would give every world the bounding spheres of the first object."""
    backend = make_backend("cpu", objects.model, N, num_threads=1)
    objects.apply(backend, WHICH)
    before = backend.get_param("geom_rbound")
    backend.set_param("body_mass", 2 * backend.get_param("body_mass"))
    assert torch.equal(backend.get_param("geom_rbound"), before)
    np.testing.assert_array_equal(before[2], objects.models[2].geom_rbound)


def test_a_file_is_a_hull_too(tmp_path: Path) -> None:
    lines = [f"v {x} {y} {z}" for x, y, z in np.asarray(OBJECTS[2].hulls[0])]
    (tmp_path / "wedge.obj").write_text("\n".join([*lines, "f 1 3 2", "f 1 2 4", "f 1 4 3", "f 2 3 4"]) + "\n")
    read = compile_objects(scene(), "thing", [MeshObject(name="wedge", hulls=(tmp_path / "wedge.obj",), density=700.0)])
    np.testing.assert_allclose(read.model.body_mass, alone(OBJECTS[2]).body_mass, rtol=1e-6)


def test_mistakes_are_named_before_any_step(objects: ObjectSet) -> None:
    with pytest.raises(BackendError, match="object 'hammer' has 2 hulls and the set 1 slots: give it slots=2"):
        compile_objects(scene(), "thing", OBJECTS, slots=1)
    with pytest.raises(FermoError, match="unknown body 'thin': did you mean 'thing'"):
        compile_objects(scene(), "thin", OBJECTS)
    with pytest.raises(BackendError, match="names of their own"):
        compile_objects(scene(), "thing", [OBJECTS[0], OBJECTS[0]])
    with pytest.raises(BackendError, match="'empty' needs at least one hull"):
        MeshObject(name="empty", hulls=())
    with pytest.raises(BackendError, match="object 'flat' does not compile"):
        compile_objects(scene(), "thing", [MeshObject(name="flat", hulls=(box(0.1, 0.1, 0.0),))])
    backend = make_backend("cpu", objects.model, N, num_threads=1)
    with pytest.raises(BackendError, match=r"shape \(4,\) int64"):
        objects.apply(backend, WHICH[:2])
    with pytest.raises(BackendError, match="another model"):
        objects.apply(make_backend("cpu", alone(OBJECTS[0]), N), WHICH)
    rows = {name: backend.get_param(name) for name in ("geom_dataid", "geom_aabb", "geom_rbound")}
    with pytest.raises(BackendError, match=r"geom_dataid.*outside -1 \.\. 4"):
        backend.set_params({**rows, "geom_dataid": rows["geom_dataid"] + 9})
    with pytest.raises(BackendError, match="single world"):
        objects.apply(make_backend("warp", objects.model, 1, device="cpu"), WHICH[:1])
