"""The Warp back end against the CPU back end, its buffers, and whole environments on it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import mujoco
import mujoco_warp as mjw
import numpy as np
import pytest
import torch
import warp as wp

from fermo.assets.scenes.so101 import HOME_QPOS, so101_scene
from fermo.envs.core.backend import BackendError, make_backend
from fermo.envs.core.nan_guard import DivergedWorldWarning, load_dump
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.core.warp_graph import capture
from fermo.envs.core.warp_sizes import probe_sizes
from fermo.envs.perturbations.dynamics import CubeMass, Friction, ServoGain
from fermo.envs.perturbations.sensing import ObservationNoise
from fermo.envs.perturbations.wrench import Push
from fermo.envs.tasks.so101_pick_cube import PickCube
from tests.contracts.backend_models import MODELS
from tests.envs.no_sync import no_sync

torch.set_num_threads(1)
WARP = {"device": "cpu"}


def test_parity_without_contacts_over_100_steps() -> None:
    """Free fall of a damped double pendulum, 400 substeps.

    Float32 rounds each substep to about 1e-7 relative. The motion is damped and not chaotic at these energies, so
    errors add up at most linearly: 400 x 1e-7 x a state of order 1, times ten for the condition of the inertia matrix.
    """
    model = MODELS["pendulum"]
    warp, cpu = make_backend("warp", model, 4, **WARP), make_backend("cpu", model, 4, num_threads=1)
    everyone = torch.ones(4, dtype=torch.bool)
    qpos = torch.rand(4, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    for backend in (warp, cpu):
        backend.reset(everyone, qpos, torch.zeros(4, 2))
        backend.forward(everyone)
    for step in range(100):
        ctrl = 0.3 * torch.sin(0.2 * torch.tensor(float(step))).expand(4, 2)
        warp.step(ctrl, 4)
        cpu.step(ctrl, 4)
        for name, tolerance in (("qpos", 4e-4), ("qvel", 4e-3), ("xpos", 4e-4), ("sensordata", 4e-3)):
            difference = (warp.read(name).double() - cpu.read(name)).abs().max()
            assert difference < tolerance, f"{name} differs by {difference:.1e} at step {step}"


def test_parity_of_the_pick_scene_in_contact() -> None:
    """The cube rests on the floor and the arm waves above it, 10 steps of 8 substeps.

    Resting contacts are held by constraint forces that each engine's solver finds to its own tolerance (1e-6 at the
    least in mujoco_warp), so positions agree to micrometres and velocities to millimetres per second; a hit would
    amplify the difference without bound.
    """
    model = MODELS["so101"]
    warp, cpu = make_backend("warp", model, 2, **WARP), make_backend("cpu", model, 2, num_threads=1)
    everyone = torch.ones(2, dtype=torch.bool)
    qpos = torch.tensor(model.qpos0).repeat(2, 1)
    qpos[:, :6] = torch.tensor(HOME_QPOS)
    for backend in (warp, cpu):
        backend.reset(everyone, qpos, torch.zeros(2, model.nv))
        backend.forward(everyone)
        for name in ("actuator_force", "site_xpos"):
            backend.read(name)
    for step in range(10):
        ctrl = torch.tensor(HOME_QPOS).repeat(2, 1)
        ctrl[:, 0] += 0.1 * step
        warp.step(ctrl, 8)
        cpu.step(ctrl, 8)
    for name, tolerance in (("qpos", 1e-5), ("qvel", 1e-3), ("site_xpos", 1e-5), ("actuator_force", 2e-4)):
        assert (warp.read(name).double() - cpu.read(name)).abs().max() < tolerance, name


TWO_BOXES = """
<mujoco>
  <worldbody>
    <geom type="box" size="0.05 0.05 0.02"/>
    <body pos="0.01 0.005 0.0405" euler="0 0 30"><freejoint/><geom type="box" size="0.03 0.03 0.02"/></body>
  </worldbody>
</mujoco>
"""


def test_two_boxes_touch_in_as_many_points_as_in_mujoco() -> None:
    """It drops half a millimetre onto the other and rests on its corners and edges; on one point it would tip."""
    model = mujoco.MjModel.from_xml_string(TWO_BOXES)
    backend, data = make_backend("warp", model, 1, **WARP), mujoco.MjData(model)
    for step in range(100):
        backend.step(torch.zeros(1, 0), 1)
        mujoco.mj_step(model, data)
        difference = np.abs(backend.read("qpos")[0].double().numpy() - data.qpos).max()
        assert difference < 2e-5, f"{difference:.1e} at step {step}"
    assert data.ncon >= 4


def test_pick_cube_runs_the_same_on_both() -> None:
    """Same seeds, same episodes: starts, observations, noise and pushes agree until single precision shows.

    A cube starts at a distance of zero from the floor, where rounding decides whether a contact exists yet: it may fall
    freely for one substep, g dt^2 = 0.25 mm, which the reward turns into some 1e-3.
    """

    def make(backend: str, options: dict) -> VectorEnv:
        perturbations = [ServoGain(0.8), ObservationNoise(0.01), Push(0.5, period_s=0.2, duration_s=0.08)]
        return VectorEnv(PickCube(), 3, backend=backend, seed=4, perturbations=perturbations, backend_options=options)

    warp, cpu = make("warp", WARP), make("cpu", {"num_threads": 1})
    first, second = warp.reset()[0], cpu.reset()[0]
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)
    for step in range(8):
        action = torch.tensor(HOME_QPOS).repeat(3, 1)
        action[:, 0] += 0.05 * step
        got, reward, *_ = warp.step(action)
        expected, other_reward, *_ = cpu.step(action)
        torch.testing.assert_close(got, expected, atol=3e-4, rtol=0)
        torch.testing.assert_close(reward, other_reward, atol=5e-3, rtol=0)
    warp.reset(options={"reset_mask": torch.tensor([True, False, False])})
    assert warp.steps.tolist() == [0, 8, 8]


def test_dynamics_perturbations_change_the_physics() -> None:
    def run(perturbations: list) -> torch.Tensor:
        env = VectorEnv(PickCube(), 2, backend="warp", seed=1, perturbations=perturbations, backend_options=WARP)
        env.reset()
        env.backend.read("qvel")[:, 6] = 0.5  # the cube slides
        for _ in range(3):
            env.step(torch.tensor(HOME_QPOS).repeat(2, 1))
        return env.sim["qpos"].clone()

    plain = run([])
    slippery = run([Friction(torch.tensor([0.1, 1.0]))])
    assert (slippery[0, 6] - plain[0, 6]) > 0.005 and torch.equal(slippery[1], plain[1])
    heavy = run([CubeMass(torch.tensor([1.0, 0.02]))])
    assert not torch.equal(heavy[0], plain[0]) and torch.equal(heavy[1], plain[1])


def test_a_diverged_world_leaves_a_dump_that_plain_mujoco_replays(tmp_path: Path) -> None:
    env = VectorEnv(PickCube(), 2, backend="warp", dump_folder=tmp_path, backend_options=WARP)
    env.reset()
    env.step(torch.tensor(HOME_QPOS).repeat(2, 1))
    qpos = env.sim["qpos"][1].clone()
    env.backend.read("qfrc_applied")[1, 0] = torch.inf
    with pytest.warns(DivergedWorldWarning, match=r"world\(s\) \[1\]"):
        *_, terminated, _, info = env.step(torch.tensor(HOME_QPOS).repeat(2, 1))
    assert terminated.tolist() == info["failed"].tolist() == [False, True]
    (folder,) = tmp_path.iterdir()
    _, data, about = load_dump(folder)
    assert about["world"] == 1
    assert data.qpos.tolist() == qpos.tolist()


@pytest.mark.parametrize(("sizes", "kind"), [((64, 8), "NEFC"), ((1, 64), "BROADPHASE")])
def test_overflow_is_an_error_that_names_the_sizes(sizes: tuple[int, int], kind: str) -> None:
    """The cube falls a millimetre and then rests on four contacts."""
    model = MODELS["so101"]
    backend = make_backend("warp", model, 2, nconmax=sizes[0], njmax=sizes[1], **WARP)
    qpos = torch.tensor(model.qpos0).repeat(2, 1)
    qpos[:, 8] += 0.001
    backend.reset(torch.ones(2, dtype=torch.bool), qpos, torch.zeros(2, model.nv))
    backend.check()
    backend.step(torch.zeros(2, 6), 8)
    told = rf"{kind}.*nconmax={sizes[0]}, njmax={sizes[1]}; .*give the warp back end nconmax=\d+, njmax=\d+"
    with pytest.raises(BackendError, match=told):
        backend.check()


def test_buffers_that_overflow_can_grow_and_the_step_is_repeated() -> None:
    model = MODELS["so101"]
    small = make_backend("warp", model, 2, nconmax=1, njmax=8, on_overflow="regrow", **WARP)
    ample = make_backend("warp", model, 2, nconmax=64, njmax=64, **WARP)
    qpos = torch.tensor(model.qpos0).repeat(2, 1)
    qpos[:, 8] += 0.001
    view, version = small.read("qpos"), small.version
    assert not small.graph_safe and ample.graph_safe
    for backend in (small, ample):
        backend.reset(torch.ones(2, dtype=torch.bool), qpos, torch.zeros(2, model.nv))
        for _ in range(3):
            backend.step(torch.zeros(2, 6), 8)
        backend.check()
    assert torch.equal(small.get_state(), ample.get_state())
    assert view.data_ptr() == small.read("qpos").data_ptr() and small.version > version
    assert small.sizes["nconmax"] >= 4 and small.sizes["njmax"] >= 16  # pyramids of four contacts
    assert ample.sizes == {"nconmax": 64, "njmax": 64}


def arrays(value: object) -> dict[str, int]:
    """Addresses of all of Warp's arrays in a dataclass of mujoco_warp."""
    found = {}
    for field in dataclasses.fields(value):  # type: ignore[arg-type]
        inner = getattr(value, field.name)
        if isinstance(inner, wp.array):
            found[field.name] = inner.ptr
        elif dataclasses.is_dataclass(inner):
            found |= {f"{field.name}.{name}": address for name, address in arrays(inner).items()}
    return found


CHANGES = {
    "body_mass": lambda rows: rows * 2,
    "dof_damping": lambda rows: rows + 0.1,
    "geom_friction": lambda rows: rows * 0.5,
    "geom_size": lambda rows: rows * 1.1,
    "actuator_gainprm": lambda rows: rows * 0.5,
    "opt.gravity": lambda rows: rows * 0.5,
}


def test_a_step_with_new_parameters_and_a_reset_waits_for_nothing_and_keeps_every_address() -> None:
    """What CUDA needs to hold all of it in one graph that sees later values."""
    backend = make_backend("warp", MODELS["so101"], 3, varying=CHANGES, **WARP)
    mask = torch.tensor([False, True, False])
    qpos, ctrl = torch.tensor(MODELS["so101"].qpos0).repeat(3, 1), torch.zeros(3, 6)
    for name in ("xpos", "sensordata", "qacc", "actuator_force"):
        backend.read(name)
    before = {name: backend.get_param(name) for name in CHANGES}

    def episode(changed: dict[str, torch.Tensor]) -> torch.Tensor:
        backend.step(ctrl, 4)
        backend.set_params(changed, mask)
        backend.reset(mask, qpos, backend.read("qvel"))
        backend.forward(mask)
        return backend.get_state()

    episode(before)
    held, version = arrays(backend._m) | arrays(backend._d), backend.version
    with no_sync():
        episode({name: change(before[name]) for name, change in CHANGES.items()})
        backend.set_state(backend.get_state())
    backend.check()
    assert arrays(backend._m) | arrays(backend._d) == held and backend.version == version
    for name in CHANGES:
        now = backend.get_param(name)
        assert torch.equal(now[~mask], before[name][~mask]) and not torch.equal(now[mask], before[name][mask])
    backend.set_param("geom_margin", backend.get_param("geom_margin"))
    assert backend.version > version  # not declared: graphs are stale, and know it


def test_a_recorded_graph_sees_parameters_set_later() -> None:
    """Warp records a graph on its CPU device too; it replays launches with the addresses they had."""
    backend = make_backend("warp", MODELS["pendulum"], 2, varying=["opt.gravity", "body_mass"], **WARP)
    everyone = torch.ones(2, dtype=torch.bool)

    def begin() -> None:
        backend.reset(everyone, torch.zeros(2, 2), torch.zeros(2, 2))

    begin()
    backend.step(torch.zeros(2, 2), 1)  # compiles
    with wp.ScopedDevice("cpu"), wp.ScopedCapture() as capture:
        mjw.step(backend._m, backend._d)
    graph = capture.graph
    assert graph is not None

    def fall(seconds: float = 0.1) -> torch.Tensor:
        begin()
        for _ in range(round(seconds / 0.004)):
            wp.capture_launch(graph)
        return backend.read("qpos").clone()

    first = fall()
    assert first.abs().max() > 0.01
    backend.set_param("opt.gravity", torch.tensor([[0.0, 0.0, -9.81], [0.0, 0.0, 0.0]]))
    second = fall()
    assert torch.equal(second[0], first[0]) and not second[1].any()


CUDA = [pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=CUDA)])
def test_sums_in_a_fixed_order_repeat_to_the_bit_and_change_only_rounding(device: str) -> None:
    """Without contacts and limits, whose order mujoco_warp 3.17 does not fix."""

    def run(deterministic: bool) -> torch.Tensor:
        backend = make_backend("warp", MODELS["pendulum"], 64, device=device, deterministic=deterministic)
        ctrl = torch.linspace(-1, 1, 64, device=backend.device)[:, None].expand(64, 2)
        for _ in range(20):
            backend.step(ctrl, 4)
        return backend.get_state()

    first = run(True)
    assert torch.equal(first, run(True))
    torch.testing.assert_close(first, run(False), rtol=0, atol=1e-4)


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=CUDA)])
def test_a_graph_of_torch_and_warp_is_the_eager_step_and_sees_new_parameters(device: str) -> None:
    model = MODELS["so101"]
    start = torch.tensor(model.qpos0).repeat(4, 1).to(device)

    def run(as_graph: bool) -> torch.Tensor:
        backend = make_backend("warp", model, 4, device=device, varying=["body_mass"])
        everyone = torch.ones(4, dtype=torch.bool, device=device)
        ctrl, steps = torch.zeros(4, 6, device=device), torch.zeros(4, device=device)

        def step() -> torch.Tensor:
            ctrl.copy_(0.1 * torch.sin(steps)[:, None])
            backend.step(ctrl, 4)
            steps.add_(1)
            backend.reset(steps == 10, start, torch.zeros_like(backend.read("qvel")))
            backend.forward(steps == 10)
            return backend.read("qpos") * 1.0

        backend.reset(everyone, start, torch.zeros_like(backend.read("qvel")))
        call = capture(step, backend.device, lambda: backend.version) if as_graph else step
        rows = [call().clone() for _ in range(12)]
        backend.set_param("body_mass", 2 * backend.get_param("body_mass"))
        rows += [call().clone() for _ in range(12)]
        backend.check()
        return torch.stack(rows)

    torch.testing.assert_close(run(True), run(False), rtol=0, atol=1e-5)


def test_probed_sizes_leave_room() -> None:
    contacts, rows = probe_sizes(MODELS["so101"])
    assert contacts >= 16 and rows >= 32 and contacts % 16 == rows % 16 == 0
    assert probe_sizes(MODELS["so101"]) == (contacts, rows)
    backend = make_backend("warp", MODELS["so101"], 2, **WARP)
    everyone = torch.ones(2, dtype=torch.bool)
    backend.reset(everyone, torch.tensor(MODELS["so101"].qpos0).repeat(2, 1), torch.zeros(2, 12))
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        backend.step(2 * torch.rand(2, 6, generator=generator) - 1, 8)
    assert not backend.failed.any()


def test_what_cannot_be_done_is_said() -> None:
    with pytest.raises(BackendError, match=r"no device 'cuda:7'.*this machine has cpu"):
        make_backend("warp", MODELS["pendulum"], 1, device="cuda:7")
    backend = make_backend("warp", MODELS["pendulum"], 2, **WARP)
    with pytest.raises(BackendError, match="cannot give each world its own 'geom_contype'"):
        backend.set_param("geom_contype", torch.zeros(2, 2))
    spec = so101_scene()
    spec.option.solver = mujoco.mjtSolver.mjSOL_PGS
    with pytest.raises(BackendError, match=r"mujoco_warp cannot simulate this model.*PGS"):
        make_backend("warp", spec.compile(), 1, **WARP)
