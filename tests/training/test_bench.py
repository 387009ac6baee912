"""Evaluation and the robustness grid: paired starts, honest counts, severities that do what they say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

import fermo.training.bench.grid_counts as grid_counts
from fermo.assets.scenes.so101 import CUBE_HALF_SIZE
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.registry import make_perturbation, perturbation_class
from fermo.envs.registry import make_task
from fermo.envs.tasks.so101_pick_cube import PickCube, PickCubeConfig
from fermo.errors import FermoError
from fermo.policies.behavior_cloning import BehaviorCloningPolicy
from fermo.training.bench.evaluate import TEST_SEED, VALIDATION_SEED, Outcome, evaluate
from fermo.training.bench.grid import GRIDS, PICK_CUBE_GRID, Axis, outermost, run_grid
from fermo.training.demos.pick_cube_expert import PickCubeExpert
from fermo.training.demos.record import record_episodes
from fermo.training.report.schema import Robustness
from tests.training.conftest import NEAR

WORLDS = 24
LIMP = Axis(kind="servo_gain", title="Servo gain", sentence="Limp servos.", severities=(0.05, 1.0))
NORMALISED = tuple(axis for axis in PICK_CUBE_GRID if axis.normalised)


def first_look(
    task: PickCube, *, policy: Any, perturbations: tuple[Perturbation, ...] = (), seed: int = TEST_SEED
) -> Tensor:
    """What a policy sees first in four episodes."""
    seen: list[Tensor] = []

    def act(obs: Tensor) -> Tensor:
        seen.append(obs.clone())
        return policy(obs)

    evaluate(task, act, episodes=4, seed=seed, perturbations=perturbations)
    return seen[0]


def stay(obs: Tensor) -> Tensor:
    return obs[:, :6]


def one_step_task() -> PickCube:
    return PickCube(PickCubeConfig(**NEAR, episode_s=0.04))


@pytest.fixture(scope="module")
def expert_outcome(near_task: PickCube) -> Outcome:
    return evaluate(near_task, PickCubeExpert(near_task), episodes=6, seed=TEST_SEED, record=6)


@pytest.fixture(scope="module")
def robustness(near_task: PickCube, near_policy: BehaviorCloningPolicy) -> Robustness:
    policies = {"one": ("One", near_policy), "same": ("The same", near_policy)}
    return run_grid(near_task, policies, (LIMP,), worlds=WORLDS)


def test_every_policy_meets_the_same_starts(near_policy: BehaviorCloningPolicy) -> None:
    task = one_step_task()
    ours = first_look(task, policy=near_policy.select_action)
    assert torch.equal(ours, first_look(task, policy=stay))
    assert torch.equal(ours, first_look(task, policy=stay, perturbations=(make_perturbation("cube_mass", 0.2),)))
    assert not torch.isclose(ours, first_look(task, policy=stay, seed=VALIDATION_SEED))[:, 6:].all(dim=1).any()


def test_the_expert_succeeds_where_it_is_easy(expert_outcome: Outcome) -> None:
    assert expert_outcome.success.all()


def test_success_is_the_cubes_final_height(near_task: PickCube, near_policy: BehaviorCloningPolicy) -> None:
    outcome = evaluate(near_task, near_policy.select_action, episodes=WORLDS, seed=VALIDATION_SEED, record=WORLDS)
    height = outcome.qpos[:, -1, near_task.cube_qpos][:, 2] - CUBE_HALF_SIZE
    assert torch.equal(outcome.success, height > near_task.config.lift_height)
    assert 0 < outcome.success.sum() < WORLDS  # the policy is good enough, and bad enough, to show both


def test_recorded_poses_have_a_pose_a_step(near_task: PickCube, expert_outcome: Outcome) -> None:
    assert expert_outcome.success.shape == (6,) and expert_outcome.success.dtype == torch.bool
    assert expert_outcome.qpos.shape == (6, near_task.max_steps, near_task.model.nq)
    assert evaluate(one_step_task(), stay, episodes=3, seed=0).qpos.shape == (0, 1, near_task.model.nq)


def test_the_recorder_and_the_evaluation_agree() -> None:
    """The same expert and starts, so the same motion; the recorder keeps observations, the evaluation poses."""
    task = PickCube(PickCubeConfig(**NEAR, episode_s=0.4))
    made = record_episodes(task, PickCubeExpert(task), episodes=3, seed=TEST_SEED)
    poses = evaluate(task, PickCubeExpert(task), episodes=3, seed=TEST_SEED, record=3).qpos
    torch.testing.assert_close(made.observations[:, 1:, :6].double(), poses[:, :-1, :6].double(), atol=1e-5, rtol=0)


def test_a_task_without_success_has_returns_alone() -> None:
    outcome = evaluate(make_task("InvertedPendulum-v5"), lambda obs: torch.zeros(len(obs), 1), episodes=5, seed=0)
    assert torch.equal(outcome.returns, outcome.lengths.double() - 1)  # one a step until it falls, nothing for the fall
    assert 1 < outcome.lengths.min() < outcome.lengths.max() < 200
    with pytest.raises(FermoError, match="does not define success"):
        outcome.success  # noqa: B018


def test_at_its_nominal_severity_the_grid_is_the_unperturbed_evaluation(
    near_task: PickCube, near_policy: BehaviorCloningPolicy, robustness: Robustness
) -> None:
    plain, perturbed = (
        evaluate(near_task, near_policy.select_action, episodes=WORLDS, seed=TEST_SEED, perturbations=each).success
        for each in ((), (make_perturbation(LIMP.kind, 1.0),))
    )
    assert torch.equal(plain, perturbed)
    assert robustness.curves[0].series[0].successes[1] == int(plain.sum())


def test_limp_servos_lift_nothing(robustness: Robustness) -> None:
    killed, nominal = robustness.curves[0].series[0].successes
    assert nominal >= WORLDS // 4
    assert killed == 0


def test_counts_belong_to_the_axis_and_the_policies(robustness: Robustness) -> None:
    (curve,) = robustness.curves
    assert (curve.kind, curve.unit, curve.severities) == ("servo_gain", "1", LIMP.severities)
    assert [(series.policy, series.label, series.random) for series in curve.series] == [
        ("one", "One", False), ("same", "The same", False)]  # fmt: skip
    assert all(series.trials == (WORLDS, WORLDS) for series in curve.series)
    assert curve.series[0].successes == curve.series[1].successes  # the same policy on the same starts


@pytest.mark.parametrize("axis", NORMALISED, ids=lambda axis: axis.kind)
def test_a_companion_is_noise_of_the_same_norm(
    axis: Axis, near_policy: BehaviorCloningPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Perturbation] = []

    def spy(*arguments: Any, **options: Any) -> Outcome:
        made.extend(options.get("perturbations", ()))
        return evaluate(*arguments, **options)

    monkeypatch.setattr(grid_counts, "evaluate", spy)
    task, worlds = one_step_task(), 8
    curves = run_grid(task, {"one": ("One", near_policy)}, (axis,), worlds=worlds).curves
    assert [series.random for series in curves[0].series] == [False, True]
    assert [perturbation.name for perturbation in made] == [axis.kind, axis.companion]

    severity = torch.tensor(axis.severities[1:]).repeat_interleave(worlds)  # the first is the nominal one
    honest = VectorEnv(task, len(severity), seed=TEST_SEED).reset()[0]
    sizes = []
    for perturbation in made:
        seen = VectorEnv(task, len(severity), seed=TEST_SEED, perturbations=(perturbation,)).reset()[0]
        sizes.append(((seen - honest) / near_policy.observation_normalizer.std).abs())
    torch.testing.assert_close(sizes[1], severity[:, None].expand_as(sizes[1]).to(sizes[1]), atol=1e-4, rtol=1e-3)
    if axis.kind == "gradient_attack":
        torch.testing.assert_close(sizes[0].amax(dim=1), sizes[1].amax(dim=1), atol=1e-4, rtol=1e-3)
    else:
        torch.testing.assert_close(sizes[0].square().mean().sqrt(), sizes[1].square().mean().sqrt(), atol=0, rtol=0.2)


@pytest.mark.parametrize("axis", [axis for axes in GRIDS.values() for axis in axes], ids=lambda axis: axis.kind)
def test_every_axis_is_in_bounds_and_contains_the_nominal(axis: Axis) -> None:
    kind = perturbation_class(axis.kind)
    assert list(axis.severities) == sorted(set(axis.severities))
    assert kind.low <= axis.severities[0] and axis.severities[-1] <= kind.high
    assert kind.nominal in axis.severities
    assert axis.sentence.endswith(".")


def test_a_quick_look_keeps_the_ends() -> None:
    assert [axis.severities for axis in outermost(PICK_CUBE_GRID)] == [
        (axis.severities[0], axis.severities[-1]) for axis in PICK_CUBE_GRID
    ]
    assert outermost((LIMP,)) == (replace(LIMP, severities=(0.05, 1.0)),)
