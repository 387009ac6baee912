"""Each pair of geometry types that a task lets touch makes the same contacts in mujoco_warp as in MuJoCo."""

from __future__ import annotations

import itertools

import mujoco
import numpy as np
import pytest
import torch
import warp as wp

from fermo.envs.core.backend import BackendError
from fermo.envs.core.backend_warp import WarpBackend
from fermo.envs.registry import TASKS, make_task

torch.set_num_threads(1)
Geom = mujoco.mjtGeom
WORLDS = 24
HULL = np.array([[0.05, 0, 0], [-0.04, 0.04, 0], [-0.04, -0.04, 0.01], [0, 0, 0.06], [0.01, 0.02, -0.05]])
SIZES = {Geom.mjGEOM_PLANE: [1, 1, 0.1], Geom.mjGEOM_SPHERE: [0.05, 0, 0], Geom.mjGEOM_CAPSULE: [0.03, 0.05, 0],
         Geom.mjGEOM_BOX: [0.05, 0.04, 0.03], Geom.mjGEOM_MESH: [0, 0, 0],
         Geom.mjGEOM_CYLINDER: [0.03, 0.05, 0]}  # fmt: skip
PAIRS = [
    (Geom.mjGEOM_PLANE, Geom.mjGEOM_SPHERE),
    (Geom.mjGEOM_PLANE, Geom.mjGEOM_CAPSULE),
    (Geom.mjGEOM_PLANE, Geom.mjGEOM_BOX),
    (Geom.mjGEOM_PLANE, Geom.mjGEOM_MESH),
    (Geom.mjGEOM_SPHERE, Geom.mjGEOM_SPHERE),
    (Geom.mjGEOM_SPHERE, Geom.mjGEOM_CAPSULE),
    (Geom.mjGEOM_CAPSULE, Geom.mjGEOM_CAPSULE),
    (Geom.mjGEOM_CYLINDER, Geom.mjGEOM_BOX),
    (Geom.mjGEOM_BOX, Geom.mjGEOM_BOX),
    (Geom.mjGEOM_PLANE, Geom.mjGEOM_CYLINDER),
    (Geom.mjGEOM_CAPSULE, Geom.mjGEOM_CYLINDER),
    (Geom.mjGEOM_CAPSULE, Geom.mjGEOM_BOX),
    (Geom.mjGEOM_CAPSULE, Geom.mjGEOM_MESH),
    (Geom.mjGEOM_CYLINDER, Geom.mjGEOM_CYLINDER),
    (Geom.mjGEOM_CYLINDER, Geom.mjGEOM_MESH),
    (Geom.mjGEOM_MESH, Geom.mjGEOM_BOX),
    (Geom.mjGEOM_MESH, Geom.mjGEOM_MESH),
]
ITERATIVE = {
    (Geom.mjGEOM_CYLINDER, Geom.mjGEOM_BOX): (5e-4, 1e-2),
    (Geom.mjGEOM_CYLINDER, Geom.mjGEOM_CYLINDER): (5e-4, 1e-2),
    (Geom.mjGEOM_CYLINDER, Geom.mjGEOM_MESH): (5e-4, 1e-2),
    (Geom.mjGEOM_CAPSULE, Geom.mjGEOM_MESH): (5e-4, 1e-3),
    (Geom.mjGEOM_CAPSULE, Geom.mjGEOM_CYLINDER): (5e-4, 5e-2),
}
"""Found by iteration, in single precision: along an edge or a curve the point settles within half a millimetre; and how
well normal and tangents agree."""
SHALLOW = dict.fromkeys(PAIRS[9:], 0.01)
"""How much higher some begin [m]: out of a deep overlap of curved shapes there is more than one way."""
NAMES = ["-".join(kind.name.removeprefix("mjGEOM_").lower() for kind in pair) for pair in PAIRS]

Contact = tuple[float, np.ndarray, np.ndarray]


def touching_types(model: mujoco.MjModel) -> set[tuple[int, int]]:
    """Types of the geoms that the model's masks and bodies let collide."""
    found = set()
    for one, other in itertools.combinations(range(model.ngeom), 2):
        bodies = model.geom_bodyid[one], model.geom_bodyid[other]
        weld = [model.body_weldid[body] for body in bodies]
        parents = [model.body_weldid[model.body_parentid[body]] for body in weld]
        family = weld[0] == weld[1] or (0 not in weld and (weld[0] == parents[1] or weld[1] == parents[0]))
        masks = (model.geom_contype[one] & model.geom_conaffinity[other]) | (
            model.geom_contype[other] & model.geom_conaffinity[one])  # fmt: skip
        if masks and not family:
            found.add(tuple(sorted((int(model.geom_type[one]), int(model.geom_type[other])))))
    return found


def scene() -> mujoco.MjModel:
    """For each pair a fixed and a free geom, out of reach of all others by their masks."""
    spec = mujoco.MjSpec()
    spec.add_mesh(name="hull", uservert=HULL.ravel())
    for index, pair in enumerate(PAIRS):
        bit = 1 << index
        fixed = spec.worldbody.add_body(name=f"fixed{index}")
        free = spec.worldbody.add_body(name=f"free{index}")
        free.add_freejoint()
        for body, kind in zip((fixed, free), pair, strict=True):
            mesh = {"meshname": "hull"} if kind == Geom.mjGEOM_MESH else {"size": SIZES[kind]}
            body.add_geom(name=body.name, type=kind, contype=bit, conaffinity=bit, **mesh)
    return spec.compile()


def poses(model: mujoco.MjModel) -> np.ndarray:
    """Free bodies at random attitudes about where they begin to touch, exact in float32, shape ``(WORLDS, nq)``."""
    generator = np.random.default_rng(0)
    qpos = np.zeros((WORLDS, len(PAIRS), 7))
    for index, (fixed, _) in enumerate(PAIRS):
        qpos[:, index, :2] = generator.uniform(-0.02, 0.02, (WORLDS, 2))
        qpos[:, index, 2] = generator.uniform(0.01, 0.04, WORLDS) + (0.0 if fixed == Geom.mjGEOM_PLANE else 0.04)
        qpos[:, index, 2] += SHALLOW.get(PAIRS[index], 0.0)
    qpos[:, :, 3:] = generator.normal(size=(WORLDS, len(PAIRS), 4))
    qpos[:, :, 3:] /= np.linalg.norm(qpos[:, :, 3:], axis=-1, keepdims=True)
    return qpos.reshape(WORLDS, model.nq).astype(np.float32).astype(np.float64)


@pytest.fixture(scope="module")
def contacts() -> tuple[list[list[list[Contact]]], list[list[list[Contact]]]]:
    """MuJoCo's and Warp's contacts by pair and world."""
    model = scene()
    qpos = poses(model)
    exact: list[list[list[Contact]]] = [[[] for _ in range(WORLDS)] for _ in PAIRS]
    single: list[list[list[Contact]]] = [[[] for _ in range(WORLDS)] for _ in PAIRS]
    pair_of = {model.geom(f"free{index}").id: index for index in range(len(PAIRS))}
    data = mujoco.MjData(model)
    for world in range(WORLDS):
        data.qpos[:] = qpos[world]
        mujoco.mj_forward(model, data)
        for each in data.contact:
            index = pair_of.get(each.geom2, pair_of.get(each.geom1))
            assert index is not None
            exact[index][world].append((each.dist, each.pos.copy(), each.frame.copy()))
    backend = WarpBackend(model, WORLDS, device="cpu", nconmax=128, njmax=512)
    everyone = torch.ones(WORLDS, dtype=torch.bool)
    backend.reset(everyone, torch.as_tensor(qpos), torch.zeros(WORLDS, model.nv))
    backend.read("qacc")  # has every stage computed
    backend.check()
    found = backend._d.contact
    count = int(backend._d.nacon.numpy()[0])
    arrays = (
        wp.to_torch(array).numpy()[:count] for array in (found.worldid, found.geom, found.dist, found.pos, found.frame)
    )
    for world, geoms, dist, pos, frame in zip(*arrays, strict=True):
        index = pair_of.get(int(geoms[1]), pair_of.get(int(geoms[0])))
        assert index is not None
        if dist < 0:  # candidates that do not touch are left in the list
            single[index][world].append((float(dist), pos.copy(), frame.reshape(9).copy()))
    return exact, single


@pytest.mark.parametrize("index", range(len(PAIRS)), ids=NAMES)
def test_contacts_are_those_of_mujoco(index: int, contacts: tuple) -> None:
    exact, single = (engine[index] for engine in contacts)
    place, turn = ITERATIVE.get(PAIRS[index], (1e-4, 1e-3))
    assert sum(bool(world) for world in exact) >= WORLDS // 3, "the poses hardly touch: the test looks at nothing"
    for world, (expected, got) in enumerate(zip(exact, single, strict=True)):
        expected = [each for each in expected if each[0] < -1e-5]
        got = [each for each in got if each[0] < -1e-5]
        assert len(expected) == len(got), f"world {world}: {len(expected)} contacts in MuJoCo, {len(got)} in Warp"
        for dist, pos, frame in expected:
            near = min(got, key=lambda each: float(np.linalg.norm(each[1] - pos)))
            np.testing.assert_allclose(near[1], pos, atol=place, err_msg=f"world {world}, position")
            np.testing.assert_allclose(near[0], dist, atol=1e-5, err_msg=f"world {world}, depth")
            np.testing.assert_allclose(near[2], frame, atol=turn, err_msg=f"world {world}, normal and tangents")


def test_every_pair_that_a_task_lets_touch_is_among_them() -> None:
    used = set()
    for name in TASKS:
        task = make_task(name)
        try:
            used |= touching_types(task.engine_model("warp"))
        except BackendError:
            continue  # it does not run on Warp
    assert used <= {tuple(sorted(map(int, pair))) for pair in PAIRS}
