"""What every back end promises, checked against plain MuJoCo and against the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from fermo.assets.scenes.so101 import HOME_QPOS, so101_scene
from fermo.envs.core.backend import Backend, BackendError, make_backend
from fermo.errors import FermoError
from tests.contracts.backend_models import MODELS

torch.set_num_threads(1)

N = 3


@dataclass(frozen=True)
class Engine:
    """A back end, the precision of its arithmetic, and whether it can run here."""

    label: str
    name: str
    options: dict
    epsilon: float

    def make(self, model: str, num_worlds: int = N, **more: object) -> Backend:
        return make_backend(self.name, MODELS[model], num_worlds, **self.options, **more)


BACKENDS = (
    pytest.param(Engine("cpu", "cpu", {"num_threads": 2}, 2.0**-52), id="cpu"),
    pytest.param(Engine("warp-cpu", "warp", {"device": "cpu"}, 2.0**-23), id="warp-cpu"),
    pytest.param(
        Engine("cuda", "warp", {"device": "cuda"}, 2.0**-23),
        id="cuda",
        marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")],
    ),
)


@pytest.fixture(scope="module", params=BACKENDS)
def engine(request: pytest.FixtureRequest) -> Engine:
    return request.param


def start(model: mujoco.MjModel, num_worlds: int = N) -> tuple[Tensor, Tensor]:
    """Starting states that differ between worlds."""
    qpos = torch.tensor(model.qpos0).repeat(num_worlds, 1)
    arm = torch.tensor(HOME_QPOS, dtype=torch.float64) if model.nu == 6 else torch.tensor([0.3, 0.5]).double()
    qpos[:, : model.nu] = arm + 0.05 * torch.arange(num_worlds)[:, None]
    return qpos, 0.1 * torch.ones(num_worlds, model.nv, dtype=torch.float64)


def begin(backend: Backend) -> None:
    everyone = torch.ones(backend.num_worlds, dtype=torch.bool, device=backend.device)
    qpos, qvel = (rows.to(backend.device) for rows in start(backend.model, backend.num_worlds))
    backend.reset(everyone, qpos, qvel)
    backend.forward(everyone)


def controls(backend: Backend, steps: int) -> Tensor:
    """A slow wave about the start, ``(steps, N, nu)``, so that the arm moves without hitting anything."""
    arm = start(backend.model)[0][0, : backend.model.nu]
    wave = 0.2 * torch.sin(0.3 * torch.arange(steps, dtype=torch.float64))[:, None, None]
    return (arm + wave).expand(steps, backend.num_worlds, -1).to(backend.device)


def run(backend: Backend, steps: int = 4, substeps: int = 4) -> Tensor:
    """Step with `controls`; states along the way ``(steps, N, nq + nv)`` float64."""
    rows = []
    for ctrl in controls(backend, steps):
        backend.step(ctrl, substeps)
        rows.append(torch.cat([backend.read("qpos"), backend.read("qvel")], dim=1).double().cpu().clone())
    return torch.stack(rows)


def reference(model: mujoco.MjModel, world: int, ctrls: Tensor, substeps: int) -> mujoco.MjData:
    """One world in plain MuJoCo."""
    data = mujoco.MjData(model)
    qpos, qvel = start(model)
    data.qpos[:], data.qvel[:] = qpos[world], qvel[world]
    for ctrl in ctrls:
        data.ctrl[:] = ctrl[world].cpu()
        mujoco.mj_step(model, data, substeps)
    return data


def numpy(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


@pytest.mark.parametrize("model", MODELS)
class TestEveryModel:
    def test_attributes_and_shapes(self, engine: Engine, model: str) -> None:
        backend = engine.make(model)
        begin(backend)
        m = backend.model
        assert backend.name == engine.name and backend.num_worlds == N and backend.failed.shape == (N,)
        shapes = {"qpos": (m.nq,), "qvel": (m.nv,), "time": (), "sensordata": (m.nsensordata,), "xpos": (m.nbody, 3),
                  "xquat": (m.nbody, 4), "xmat": (m.nbody, 9), "xfrc_applied": (m.nbody, 6), "ctrl": (m.nu,),
                  "cvel": (m.nbody, 6), "qacc": (m.nv,), "actuator_force": (m.nu,)}  # fmt: skip
        for name, shape in shapes.items():
            view = backend.read(name)
            assert view.shape == (N, *shape) and view.device == backend.device, name
            assert view.dtype == backend.dtype, name
            assert view.data_ptr() == backend.read(name).data_ptr(), f"{name} is not a view"

    def test_step_is_mj_step_then_a_fresh_velocity_stage(self, engine: Engine, model: str) -> None:
        backend = engine.make(model)
        begin(backend)
        for name in ("qacc", "actuator_force", "xpos", "xmat", "sensordata", "cvel", "site_xpos"):
            backend.read(name)  # a first read computes; later ones only look
        run(backend, steps=3, substeps=4)
        for world in range(N):
            data = reference(backend.model, world, controls(backend, 3), 4)
            # float64 is bitwise; float32 rounds about 12 substeps of some 1e3 operations each on values of order 1-10.
            tolerance = 0.0 if engine.name == "cpu" else 200 * engine.epsilon
            for name, scale in (("qpos", 1), ("qvel", 10), ("qacc", 2000), ("actuator_force", 50), ("time", 1)):
                np.testing.assert_allclose(
                    numpy(backend.read(name)[world]), getattr(data, name), rtol=0, atol=tolerance * scale, err_msg=name
                )
            mujoco.mj_forward(backend.model, data)
            tolerance = max(tolerance, 1e-14)
            for name, scale in (("xpos", 1), ("xmat", 1), ("sensordata", 10), ("cvel", 10), ("site_xpos", 1)):
                np.testing.assert_allclose(
                    numpy(backend.read(name)[world]), getattr(data, name), rtol=0, atol=tolerance * scale, err_msg=name
                )

    def test_reset_and_forward_touch_only_the_masked(self, engine: Engine, model: str) -> None:
        one, other = engine.make(model), engine.make(model)
        names = ("qpos", "qvel", "time", "xpos", "sensordata", "qacc", "actuator_force", "ctrl", "cvel")
        for backend in (one, other):
            begin(backend)
            for name in names:
                backend.read(name)
            run(backend, steps=2)
        before = {name: one.read(name).clone() for name in names}
        mask = torch.tensor([False, True, False], device=one.device)
        qpos, qvel = (rows.to(one.device) for rows in start(one.model))
        one.reset(mask, qpos, qvel)
        one.forward(mask)
        for name in names:
            assert torch.equal(one.read(name)[~mask], before[name][~mask]), name
        data = reference(one.model, 1, torch.empty(0, N, one.model.nu), 1)
        mujoco.mj_forward(one.model, data)
        for name in ("qpos", "qvel", "time", "xpos", "ctrl"):
            np.testing.assert_allclose(numpy(one.read(name)[1]), getattr(data, name), atol=1e-6, err_msg=name)
        # A neighbour's reset must not change the others' future either.
        after, undisturbed = run(one, steps=3), run(other, steps=3)
        assert torch.equal(after[:, [0, 2]], undisturbed[:, [0, 2]])

    def test_saved_state_replays_exactly(self, engine: Engine, model: str) -> None:
        backend = engine.make(model)
        begin(backend)
        backend.read("xfrc_applied")[:, 1, 2] = 0.5
        run(backend, steps=2)
        saved = backend.get_state()
        first = run(backend, steps=3)
        backend.set_state(saved)
        assert torch.equal(backend.get_state(), saved)
        assert torch.equal(run(backend, steps=3), first)
        # Only the masked world goes back.
        now = backend.get_state()
        backend.set_state(saved, torch.tensor([True, False, False], device=backend.device))
        assert torch.equal(backend.get_state()[1:], now[1:]) and torch.equal(backend.get_state()[0], saved[0])
        with pytest.raises(BackendError, match="state has shape"):
            backend.set_state(saved[:, :-1])

    def test_saved_state_opens_in_plain_mujoco(self, engine: Engine, model: str) -> None:
        backend = engine.make(model)
        begin(backend)
        run(backend, steps=2)
        data = mujoco.MjData(backend.model)
        kind = mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(backend.model, data, numpy(backend.get_state()[2]), kind)
        for name in ("qpos", "qvel", "time", "ctrl", "qacc_warmstart"):
            np.testing.assert_array_equal(numpy(backend.read(name)[2]), getattr(data, name), err_msg=name)


LIVE = {
    "body_mass": lambda rows: rows * 1.5,
    "dof_damping": lambda rows: rows * 1.5 + 0.01,
    "dof_armature": lambda rows: rows + 0.02,
    "actuator_gainprm": lambda rows: rows * 0.7,
    "opt.gravity": lambda rows: rows * 0.5,
    "body_ipos": lambda rows: rows + 0.01,
}
"""A change of each model field that must show in the trajectory."""


@pytest.mark.parametrize("name", LIVE)
def test_parameters_are_live_and_per_world(engine: Engine, name: str) -> None:
    changed, plain = engine.make("pendulum"), engine.make("pendulum")
    rows = changed.get_param(name)
    mask = torch.tensor([True, False, False], device=changed.device)
    changed.set_param(name, LIVE[name](rows), mask)
    assert torch.equal(changed.get_param(name)[1:], rows[1:]) and not torch.equal(changed.get_param(name)[0], rows[0])
    for backend in (changed, plain):
        begin(backend)
    one, other = run(changed), run(plain)
    assert not torch.equal(one[:, 0], other[:, 0]), f"{name} does nothing"
    assert torch.equal(one[:, 1:], other[:, 1:]), f"{name} leaks into other worlds"


def heavier(spec: mujoco.MjSpec) -> None:
    spec.geom("cube").mass = 0.5


def compiled(change: Callable[[mujoco.MjSpec], None]) -> mujoco.MjModel:
    spec = so101_scene()
    change(spec)
    return spec.compile()


def test_derived_constants_follow_mass_and_inertia(engine: Engine) -> None:
    backend, expected = engine.make("so101"), compiled(heavier)
    cube = backend.model.body("cube").id
    mask = torch.tensor([False, True, False], device=backend.device)
    derived = ("body_subtreemass", "body_invweight0", "dof_invweight0")
    before = {name: backend.get_param(name) for name in derived}
    for name in ("body_mass", "body_inertia"):
        rows = backend.get_param(name)
        rows[:, cube] *= 0.5 / 0.02
        backend.set_param(name, rows, mask)
    for name in derived:
        rows = backend.get_param(name)
        assert torch.equal(rows[~mask], before[name][~mask]), name
        # A chain of solves with the inertia matrix: its condition number, about 1e3, times the rounding of the engine.
        np.testing.assert_allclose(numpy(rows[1]), getattr(expected, name), rtol=1e4 * engine.epsilon, err_msg=name)
    world = backend.world_model(1)
    for name in ("body_mass", *derived):
        np.testing.assert_allclose(getattr(world, name), getattr(expected, name), rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(backend.world_model(0).body_mass, MODELS["so101"].body_mass, rtol=1e-6)


def larger(spec: mujoco.MjSpec) -> None:
    spec.geom("cube").size = [0.03, 0.02, 0.025]
    spec.geom("cube").mass = 0.02


def test_sizes_of_geometry_differ_between_worlds_and_their_bounds_follow(engine: Engine) -> None:
    backend, expected = engine.make("so101"), compiled(larger)
    cube = expected.geom("cube").id
    mask = torch.tensor([False, True, False], device=backend.device)
    fields = ("geom_size", "geom_rbound", "geom_aabb")
    before = {name: backend.get_param(name) for name in fields}
    rows = before["geom_size"].clone()
    rows[:, cube] = rows.new_tensor(expected.geom_size[cube])
    backend.set_param("geom_size", rows, mask)
    for name in fields:
        now = backend.get_param(name)
        assert torch.equal(now[~mask], before[name][~mask]), name
        np.testing.assert_allclose(numpy(now[1]), getattr(expected, name), rtol=4 * engine.epsilon, err_msg=name)
    # It falls a millimetre onto the floor and rests on the faces of its new size; the small one is still in the air.
    qpos, _ = (each.to(backend.device) for each in start(backend.model))
    qpos[:, 8] = 0.026
    backend.reset(torch.ones_like(mask), qpos, torch.zeros(N, backend.model.nv, device=backend.device))
    for _ in range(4):
        backend.step(qpos[:, :6], 4)
    height = numpy(backend.read("qpos")[:, 8])
    np.testing.assert_allclose(height[1], 0.025, atol=2e-4)
    assert (height[[0, 2]] < 0.0245).all()


def test_one_world_has_a_model_too(engine: Engine) -> None:
    backend = engine.make("pendulum", 1)
    backend.set_param("opt.gravity", torch.tensor([[0.0, 0.0, -1.5]]))
    backend.set_param("actuator_gainprm", backend.get_param("actuator_gainprm") * 0.5)
    model = backend.world_model(0)
    assert model.opt.gravity.tolist() == [0.0, 0.0, -1.5]
    np.testing.assert_array_equal(model.actuator_gainprm, 0.5 * backend.model.actuator_gainprm)
    np.testing.assert_array_equal(model.body_mass, backend.model.body_mass)


def test_mistakes_are_named(engine: Engine) -> None:
    backend = engine.make("pendulum")
    with pytest.raises(FermoError, match=r"unknown data field 'qpoz': did you mean 'qpos'"):
        backend.read("qpoz")
    with pytest.raises(FermoError, match=r"unknown model field 'body_mas': did you mean 'body_mass'"):
        backend.get_param("body_mas")
    rows = backend.get_param("body_mass")
    with pytest.raises(BackendError, match=r"body_mass.*shape"):
        backend.set_param("body_mass", rows[:2])
    with pytest.raises(BackendError, match=r"body_mass.*not finite or outside 0 .. inf in world\(s\) \[1\]"):
        backend.set_param("body_mass", rows * torch.tensor([1.0, -1.0, 2.0], device=rows.device)[:, None])
        backend.check()
    with pytest.raises(BackendError, match=r"body_mass.*not finite"):
        backend.set_param("body_mass", rows * torch.nan)
        backend.check()
    backend.check()
    with pytest.raises(BackendError, match=r"geom_type' cannot differ|cannot give each world its own 'geom_type"):
        backend.set_param("geom_type", torch.ones(N, 2))
    with pytest.raises(BackendError, match=r"'geom_rbound' cannot be set alone.*for a primitive set geom_size"):
        backend.set_param("geom_rbound", torch.ones(N, 2))
    with pytest.raises(BackendError, match="num_worlds must be at least 1, got 0"):
        engine.make("pendulum", 0)
    with pytest.raises(FermoError, match="unknown back end 'wrap': did you mean 'warp'"):
        make_backend("wrap", MODELS["pendulum"], 1)


def test_a_diverged_world_freezes_alone_and_recovers_by_reset(engine: Engine) -> None:
    backend, plain = engine.make("pendulum"), engine.make("pendulum")
    for each in (backend, plain):
        begin(each)
    run(plain, steps=2)
    run(backend, steps=2)
    good = backend.read("qpos")[1].clone()
    backend.read("qfrc_applied")[1] = torch.inf
    after, undisturbed = run(backend, steps=3), run(plain, steps=3)
    assert backend.failed.tolist() == [False, True, False]
    assert torch.equal(after[:, [0, 2]], undisturbed[:, [0, 2]])
    for row in after[:, 1, : backend.model.nq]:
        assert torch.equal(row, good.double().cpu())
    assert torch.isfinite(backend.read("xpos")).all()
    begin(backend)
    begin(plain)
    assert not backend.failed.any()
    assert torch.equal(run(backend), run(plain))


def test_applied_force_is_in_the_world_frame(engine: Engine) -> None:
    backend = engine.make("so101")
    begin(backend)
    cube = backend.model.body("cube").id
    backend.read("qvel")[:] = 0.0
    backend.read("xfrc_applied")[:, cube, 2] = 2 * 9.81 * 0.02
    still = torch.tensor(HOME_QPOS).expand(N, 6).to(backend.device)
    backend.step(still, 4)
    # Twice its weight upwards leaves one g upwards, from rest on the floor.
    velocity = numpy(backend.read("qvel")[:, 8])
    np.testing.assert_allclose(velocity, 9.81 * 4 * 0.005, rtol=0.05)
