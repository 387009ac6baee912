"""Guarantees on the simulated plants: linearisation, tubes and attacks, with regulators whose slopes are known."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fermo.cli import main
from fermo.envs.core.task import Task
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.training.demos.cart_pole_expert import CartPoleExpert
from fermo.training.demos.dataset import record_dataset
from fermo.training.demos.pendulum_expert import PendulumExpert
from fermo.training.fit import fit
from fermo.training.guarantee.closed_loop import ClosedLoop
from fermo.training.guarantee.control_step import ControlStep
from fermo.training.guarantee.ellipsoid_tube import ellipsoid_tube
from fermo.training.guarantee.floor import gamma_floor, stability_floor
from fermo.training.guarantee.imitation import bounds
from fermo.training.guarantee.linearize import check_linearization, linearize
from fermo.training.guarantee.observed import observed, paired_runs, premises
from fermo.training.guarantee.plants import PLANTS, guaranteed_plant
from fermo.training.guarantee.policy_bound import PolicyBound
from fermo.training.guarantee.report import guarantee, largest_zeta
from fermo.training.guarantee.samples import ROUNDS, unseen_share
from fermo.training.guarantee.tube import peak_gain_tube
from fermo.training.guarantee.worst_case import worst_found
from fermo.training.recipes import loop_recipe, policy_recipe

CART_POLE, PENDULUM = "fermo/CartPole-v0", "fermo/Pendulum-v0"
STD = {CART_POLE: ([0.19, 0.04, 0.25, 0.15], [1.44]), PENDULUM: ([0.5, 0.3, 1.8], [0.84])}


def resting(name: str, **overrides: Any) -> Task:
    return make_task(name, **PLANTS[name].at_rest, **overrides)


def regulator(name: str, **overrides: Any) -> tuple[Any, ClosedLoop]:
    """The expert, and its loop with its slope: that of its gain; the pendulum's, which turns directions into an angle,
    is a little steeper about the top.
    """
    task = resting(name, **overrides)
    observation_std, action_std = (np.array(values) for values in STD[name])
    expert = CartPoleExpert(task) if name == CART_POLE else PendulumExpert(task)  # type: ignore[arg-type]
    gain = expert.lqr.K.numpy() if name == CART_POLE else np.c_[0.0, expert.lqr.K.numpy()]
    slope = float(np.linalg.norm(gain / action_std[:, None] * observation_std, 2))
    slope *= 1.0 if name == CART_POLE else 1.02
    bound = PolicyBound(lipschitz=slope, observation_std=observation_std, action_std=action_std)
    return expert, ClosedLoop(ControlStep(task, 64), expert, bound)


@pytest.fixture(scope="module")
def cart_pole() -> tuple[Any, ClosedLoop]:
    return regulator(CART_POLE, episode_s=6.0)


@pytest.mark.parametrize("x", [(0.0, 0.0, 0.0, 0.0), (0.3, -0.4, 1.0, 2.0)])
def test_a_linearisation_predicts_the_next_state_to_second_order(x: tuple[float, ...]) -> None:
    task = make_task(CART_POLE)
    step, state, u = ControlStep(task, 8), np.array(x), np.array([2.0])
    lin = linearize(task, state, u, step)
    rng = np.random.default_rng(0)
    for size in (1e-2, 1e-3):
        dx, du = size * rng.uniform(-1, 1, (8, 4)), size * rng.uniform(-1, 1, (8, 1))
        left = step(state + dx, u + du) - lin.next_x - dx @ lin.A.T - du @ lin.B.T
        assert np.abs(left).max() < 20 * size**2
    np.testing.assert_allclose(lin.C, np.eye(4), atol=1e-9)  # it observes its state


def test_the_pendulums_linearisation_is_its_closed_form() -> None:
    """implicitfast, hinge at the top: ``v+ = v + h (m g l a + u - d v) / (I + h d)``, ``a+ = a + h v+``, five times."""
    task = make_task(PENDULUM)
    expert = PendulumExpert(task)  # type: ignore[arg-type]
    h, d = task.model.opt.timestep, float(task.model.dof_damping[0])
    speed = h / (expert.inertia + h * d) * np.array([expert.weight, -d, 1.0]) + np.array([0.0, 1.0, 0.0])
    one = np.stack([np.array([1.0, 0.0, 0.0]) + h * speed, speed, [0.0, 0.0, 1.0]])
    five = np.linalg.matrix_power(one, task.substeps)
    lin = linearize(task, np.zeros(2), np.zeros(1))
    np.testing.assert_allclose(np.c_[lin.A, lin.B], five[:2], atol=1e-7)
    np.testing.assert_allclose(lin.C, [[0, 0], [1, 0], [0, 1]], atol=1e-6)  # (cos, sin, velocity) at the top


def test_matrices_of_another_plant_are_refused_by_name() -> None:
    task = make_task(CART_POLE)
    step = ControlStep(task, 16)
    lin = linearize(task, np.zeros(4), np.zeros(1), step)
    for change, told in (({"A": lin.A.T}, "A differs .* it is the transpose"), ({"A": 1.01 * lin.A}, "A differs"),
                         ({"B": -lin.B}, "B differs"), ({"next_x": lin.next_x + 1}, "state reached")):  # fmt: skip
        with pytest.raises(FermoError, match=told):
            check_linearization(dataclasses.replace(lin, **change), step)


@pytest.mark.parametrize(("name", "reason"), [
    ("Hopper-v5", None), ("Ant-v5", "quaternions"), ("SO101-PickCube-v0", "quaternions"),
    ("SO101-Reach-v0", "remember"),
])  # fmt: skip
def test_nothing_is_claimed_where_contacts_and_memories_are(name: str, reason: str | None) -> None:
    task = make_task(name)
    with pytest.raises(FermoError, match=r"no closed-loop guarantee is claimed .* CartPole-v0, Pendulum-v0"):
        guaranteed_plant(task.name)
    if reason:
        with pytest.raises(FermoError, match=reason):
            ControlStep(task)


def test_the_cart_poles_floor_is_what_holds_the_pole_against_gravity() -> None:
    """A force of less than (M + m) g per radian cannot: the linearised pole then accelerates outwards at rest."""
    lin = linearize(make_task(CART_POLE), np.zeros(4), np.zeros(1))
    floor, K = stability_floor(lin.A, lin.B)
    assert 1.1 * 9.81 < floor < 1.02 * 1.1 * 9.81
    assert np.abs(np.linalg.eigvals(lin.A + lin.B @ K)).max() < 1
    observation_std, action_std = (np.array(values) for values in STD[CART_POLE])
    assert gamma_floor(make_task(CART_POLE), observation_std, action_std) == pytest.approx(
        floor * observation_std[1] / action_std[0], rel=0.05
    )


@pytest.mark.parametrize("zeta", [0.02, 0.1])
def test_attacks_reach_nearly_the_linear_tube_and_never_the_certified_one(
    zeta: float, cart_pole: tuple[Any, ClosedLoop]
) -> None:
    expert, loop = cart_pole
    start = np.abs(loop.equilibrium)
    tube = peak_gain_tube(loop, zeta, start, samples=1024)
    around = ellipsoid_tube(loop, zeta, start, samples=128)
    np.testing.assert_allclose(tube.start + tube.measurement + tube.policy + tube.plant, tube.half_widths)
    found = worst_found(loop.step.task, expert, loop, zeta)
    assert (found.largest <= np.minimum(tube.half_widths, around.half_widths)).all()
    assert (found.largest >= 0.95 * tube.measurement).all()  # the bang-bang beat finds what the l1 norm promises
    assert (tube.policy < 1e-3 * tube.half_widths).all()  # the law is linear there


def test_the_pendulums_tube_holds_near_upright() -> None:
    expert, loop = regulator(PENDULUM, episode_s=4.0)
    tube = peak_gain_tube(loop, 0.02, np.abs(loop.equilibrium), samples=1024)
    found = worst_found(loop.step.task, expert, loop, 0.02)
    assert (found.largest <= tube.half_widths).all() and (found.largest >= 0.8 * tube.measurement).all()


def test_the_largest_error_is_where_the_tube_leaves_the_safe_box(cart_pole: tuple[Any, ClosedLoop]) -> None:
    loop = cart_pole[1]
    limits = np.array([np.inf, 0.01, np.inf, np.inf])
    zeta = largest_zeta(loop, limits, samples=256)
    inside, outside = (peak_gain_tube(loop, z, np.abs(loop.equilibrium), samples=256) for z in (zeta, 1.05 * zeta))
    assert inside.half_widths[1] <= 0.01 < outside.half_widths[1]


def test_an_error_too_large_for_the_region_has_no_tube(cart_pole: tuple[Any, ClosedLoop]) -> None:
    for attempt in (peak_gain_tube, ellipsoid_tube):
        with pytest.raises(FermoError, match=r"no tube closes|ellipsoid"):
            attempt(cart_pole[1], 20.0, np.zeros(4))


def test_samples_say_how_much_they_may_have_missed() -> None:
    share = unseen_share(4096)
    assert (1 - share) ** 4096 == pytest.approx(1e-3 / ROUNDS) and share < 3e-3


def test_a_loop_that_forgets_and_what_an_imitator_of_itself_pays(cart_pole: tuple[Any, ClosedLoop]) -> None:
    """The expert imitates itself: no error, no regret, and the measurement bound stands above what is seen."""
    expert, loop = cart_pole
    task = make_task(CART_POLE, episode_s=3.0)
    runs = paired_runs(task, loop.step.task, expert, expert, loop.bound, 0.05, worlds=4)
    obs = runs.expert.reshape(-1, 4)
    data = obs, expert(torch.from_numpy(obs)).numpy()
    cost = PLANTS[CART_POLE].cost(task.config)
    rests_on, seen = premises(runs, loop, loop, cost, data, np.array([20.0])), observed(runs, loop, loop, cost)
    assert rests_on.expert_lipschitz == pytest.approx(loop.bound.lipschitz)
    assert rests_on.fill == 0 and rests_on.train_error < 1e-6 and rests_on.error_floor < 1e-9
    assert seen["policy error"] == seen["deviation from the expert"] == seen["regret"] == 0
    made = bounds(rests_on)
    for name, value in made.items():
        assert value.value is None or value.value >= seen[name] - 1e-9
    assert seen["deviation under measurement error"] > 0.01


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small Lipschitz policy of the pendulum, good near the top."""
    folder = tmp_path_factory.mktemp("pendulum")
    near: dict[str, Any] = {"start_angle": 0.1, "start_velocity": 0.2, "episode_s": 3.0}
    record_dataset(PENDULUM, folder / "data", episodes=16, recoveries=16, seed=0, **near)
    fit(folder / "data", folder / "run", task=PENDULUM, family="lipschitz_bc",
        policy=policy_recipe(PENDULUM, "lipschitz_bc", hidden=(16, 16), gamma=2.0),
        loop=loop_recipe(PENDULUM, "lipschitz_bc", steps=600, batch_size=256, warmup_steps=50))  # fmt: skip
    return folder / "run/checkpoint", folder / "data"


@pytest.mark.slow
def test_the_command_prints_and_writes_what_it_derived_and_what_it_found(
    checkpoint: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "guarantee.json"
    main(["guarantee", str(checkpoint[0]), "--zeta", "0.05", "--limit", "angle=0.2", "--data", str(checkpoint[1]),
          "--json", str(where)])  # fmt: skip
    told, made = capsys.readouterr().out, json.loads(where.read_text())["guarantee"]
    assert made["tube"] is not None and made["spectral_radius"] < 1
    assert all(found <= tube for found, tube in zip(made["worst"]["largest"], made["tube"], strict=True))
    assert made["safe"] == {"angle": 0.2} and made["largest_zeta"] > 0.05
    assert made["floor"] < made["bound"]["lipschitz"]
    assert "worst found" in told and "largest error certified to keep angle within 0.2" in told and str(where) in told


def test_a_policy_flatter_than_the_floor_is_refused(checkpoint: tuple[Path, Path], tmp_path: Path) -> None:
    policy = fit(checkpoint[1], tmp_path, task=PENDULUM, family="lipschitz_bc",
                 policy=policy_recipe(PENDULUM, "lipschitz_bc", hidden=(8,), gamma=0.2),
                 loop=loop_recipe(PENDULUM, "lipschitz_bc", steps=100, batch_size=64, warmup_steps=10))  # fmt: skip
    with pytest.raises(FermoError, match=r"unstable at its equilibrium .* at most 0\.1\d+, the plant takes about 0\.8"):
        guarantee(PENDULUM, policy, PolicyBound.of_policy(policy), 0.05)


@pytest.mark.parametrize(("words", "advice"), [
    ("{} --zeta 0", "zeta must be positive"),
    ("{} --limit angle", "is no STATE=DISTANCE"),
    ("{} --limit angel=1", "there is no state 'angel' to keep safe"),
    ("{} --data no-such-data", "there is no dataset folder"),
    ("{} --task Hopper", "does not fit"),
    ("no-such-folder", "there is no checkpoint folder"),
])  # fmt: skip
def test_mistakes_are_one_line(
    words: str, advice: str, checkpoint: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["guarantee", *words.format(checkpoint[0]).split()])
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.count("\n") == 1 and advice in told
    assert list(tmp_path.iterdir()) == []


def test_a_policy_without_a_certificate_has_no_guarantee() -> None:
    with pytest.raises(FermoError, match="no Lipschitz certificate"):
        PolicyBound.from_certificate(None)
    with pytest.raises(FermoError, match="lacks 'observation_std'"):
        PolicyBound.from_certificate({"lipschitz": 1.0})


@pytest.mark.slow
def test_a_bounded_policy_pays_a_little_and_is_hurt_less(tmp_path: Path) -> None:
    """The smallest budget of the sweep: one gamma against no bound, the same starts and an error of the same size."""
    main(["reproduce", "cart-pole-trade-off", "--folder", str(tmp_path)])
    made = json.loads((tmp_path / "cart-pole-trade-off/smoke.json").read_text())["cells"]
    cells = {cell["cell"]: {name: number["value"] for name, number in cell["numbers"].items()} for cell in made}
    bounded, free = cells["gamma=1/all"], cells["mlp_bc/all"]
    assert bounded["attacked cost"] < free["attacked cost"] and bounded["cost"] > free["cost"]
    assert bounded["largest error"] > free["largest error"]
