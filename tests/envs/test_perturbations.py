"""Every perturbation is alive, harmless at its nominal severity, and its own world's affair."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mujoco
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fermo.assets.scenes.so101 import so101_scene
from fermo.envs.core.task import Simulation
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.actuation import ActionDelay, ActionNoise, ActionSaturation, AdversarialBlend
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.dynamics import ActuatorForceLimit, CubeMass, Friction, JointDamping, ServoGain
from fermo.envs.perturbations.gradient_attack import GradientAttack
from fermo.envs.perturbations.registry import PERTURBATIONS, describe, make_perturbation
from fermo.envs.perturbations.sensing import ObservationDelay, ObservationDropout, ObservationNoise
from fermo.envs.perturbations.wrench import ObjectMove, Push
from fermo.envs.tasks.so101_pick_cube import PickCube
from fermo.errors import FermoError


class DirectPickCube(PickCube):
    """Goals reach the servos as they are, without the safety limiter: what a perturbation made of them shows."""

    def ctrl(self, action: Tensor, sim: Simulation) -> Tensor:
        return action


TASK = PickCube()
DIRECT = DirectPickCube()
SPEC = TASK.spec
MIX = torch.linspace(-1.0, 1.0, SPEC.command_size * SPEC.observation_size).reshape(SPEC.command_size, -1)


def policy(obs: Tensor) -> Tensor:
    """A smooth closed loop that moves the arm about and, with its wrist, the cube."""
    return 0.7 * torch.tanh(obs @ MIX.to(obs).T) + torch.tensor([0.3, 0.2, 0.1, 0.6, 0.2, 0.3]).to(obs)


def nudged(obs: Tensor, action: Tensor) -> Tensor:
    """A plant whose first channels follow the commands."""
    return obs + 0.1 * torch.nn.functional.pad(action.to(obs), (0, obs.shape[1] - action.shape[1]))


@dataclass(frozen=True)
class Case:
    """A perturbation and two severities that must give different trajectories."""

    name: str
    values: tuple[float, float]
    options: dict


CASES = (
    Case("cube_mass", (0.01, 0.2), {}),
    Case("friction", (0.2, 2.0), {}),
    Case("servo_gain", (0.5, 1.5), {}),
    Case("joint_damping", (0.5, 2.0), {}),
    Case("actuator_force_limit", (0.1, 0.3), {}),
    Case("observation_noise", (0.01, 0.02), {}),
    Case("observation_sign_noise", (0.01, 0.02), {}),
    Case("observation_bias", (0.01, 0.02), {}),
    Case("observation_delay", (0.05, 0.1), {}),
    Case("observation_dropout", (0.2, 0.6), {}),
    Case("gradient_attack", (0.01, 0.02), {"policy_map": policy}),
    Case("dynamics_attack", (0.01, 0.02), {"policy_map": policy, "step_map": nudged, "cost": lambda obs: obs[:, 0]}),
    Case("learned_attack", (0.01, 0.02), {"adversary": lambda obs: torch.cos(9 * obs)}),
    Case("gradient_shift", (0.01, 0.02), {"policy_map": policy}),
    Case("action_noise", (0.01, 0.02), {}),
    Case("action_delay", (0.05, 0.1), {}),
    Case("action_saturation", (0.2, 0.4), {}),
    Case("adversarial_blend", (0.1, 0.2), {"adversary": lambda obs: -policy(obs)}),
    Case("push", (1.0, 2.0), {"period_s": 0.4}),
    Case("object_move", (0.01, 0.02), {"window_s": (0.1, 0.3)}),
)
DYNAMICS = (CubeMass, Friction, ServoGain, JointDamping, ActuatorForceLimit)


def shoved(env: VectorEnv) -> None:
    """Slide the cubes: friction and mass show only in a body that moves."""
    env.backend.read("qvel")[:, 6] = 0.3


def rollout(perturbations: list[Perturbation], *, num_envs: int = 3, steps: int = 14, first_world: int = 0) -> Tensor:
    """States and observations along a closed-loop rollout, ``(steps + 1, num_envs, nq + observation_size)``."""
    env = VectorEnv(
        TASK,
        num_envs,
        seed=5,
        perturbations=perturbations,
        worlds=torch.arange(num_envs) + first_world,
        backend_options={"num_threads": 1},
    )
    obs, _ = env.reset()
    shoved(env)
    rows = [torch.cat([env.sim["qpos"], obs.double()], dim=1)]
    for _ in range(steps):
        obs, *_ = env.step(policy(obs))
        rows.append(torch.cat([env.sim["qpos"], obs.double()], dim=1))
    return torch.stack(rows)


def make(case: Case, severity: float | Tensor) -> Perturbation:
    return make_perturbation(case.name, severity, **case.options)


@pytest.fixture(scope="module")
def undisturbed() -> Tensor:
    return rollout([])


def test_every_registered_perturbation_has_a_case() -> None:
    assert [case.name for case in CASES] == list(PERTURBATIONS)
    for facts in describe():
        assert facts.low <= facts.nominal <= facts.high and facts.unit and facts.sentence.endswith(".")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
class TestEvery:
    def test_two_severities_give_different_trajectories(self, case: Case, undisturbed: Tensor) -> None:
        one, other = (rollout([make(case, value)]) for value in case.values)
        for world in range(3):
            assert not torch.equal(one[:, world], other[:, world])
            assert not torch.equal(one[:, world], undisturbed[:, world])
        assert torch.isfinite(one).all() and torch.isfinite(other).all()

    def test_nominal_is_bitwise_no_perturbation(self, case: Case, undisturbed: Tensor) -> None:
        assert torch.equal(rollout([make(case, PERTURBATIONS[case.name].nominal)]), undisturbed)

    def test_a_grid_of_severities_is_its_rollouts_side_by_side(self, case: Case, undisturbed: Tensor) -> None:
        low, high = case.values
        grid = rollout([make(case, torch.tensor([low, PERTURBATIONS[case.name].nominal, high]))])
        assert torch.equal(grid[:, 0], rollout([make(case, low)])[:, 0])
        assert torch.equal(grid[:, 1], undisturbed[:, 1])
        assert torch.equal(grid[:, 2], rollout([make(case, high)])[:, 2])

    def test_out_of_bounds_names_the_bounds(self, case: Case) -> None:
        for value in (-1.0, float("nan")):
            with pytest.raises(FermoError, match=rf"{case.name} severity .* outside \["):
                make(case, value)

    def test_wrong_number_of_severities(self, case: Case) -> None:
        with pytest.raises(FermoError, match="for 3 worlds"):
            rollout([make(case, torch.full((4,), case.values[0]))])


@given(first=st.integers(0, 5), num_envs=st.integers(1, 4), case=st.sampled_from(CASES))
@settings(max_examples=8, deadline=None)
def test_a_world_is_the_same_in_any_batch(first: int, num_envs: int, case: Case) -> None:
    # The policy is a batched matrix product whose rounding depends on the batch size: float32 differs in its last bits.
    severity = case.values[0]
    alone = rollout([make(case, severity)], num_envs=1, first_world=first, steps=5)
    batch = rollout([make(case, severity)], num_envs=num_envs, first_world=first, steps=5)
    torch.testing.assert_close(alone[:, 0], batch[:, 0], atol=1e-4, rtol=1e-4)


def test_they_compose() -> None:
    everything = [make(case, case.values[0]) for case in CASES]
    out = rollout(everything)
    assert torch.isfinite(out).all()
    assert not torch.equal(out, rollout(everything[:-1]))


def test_pushes_on_one_body_add_up_and_end() -> None:
    both = [Push(1.0, period_s=0.2, duration_s=0.08), Push(2.0, period_s=0.2, duration_s=0.08)]
    env = VectorEnv(TASK, 4, seed=0, perturbations=both)
    obs, _ = env.reset()
    gripper = env.backend.model.body("gripper").id
    norms = []
    for _ in range(10):
        obs, *_ = env.step(policy(obs))
        force = env.sim["xfrc_applied"]
        norms.append(force[:, gripper, :2].norm(dim=1))
        assert not force[:, [b for b in range(env.backend.model.nbody) if b != gripper]].any()
    norms = torch.stack(norms)
    expected = torch.where(norms > 1e-9, 3.0, 0.0)  # one stream, so both fall together
    torch.testing.assert_close(norms, expected.to(norms), atol=1e-12, rtol=1e-12)
    assert ((norms > 1e-9).sum(dim=0) == 4).all()  # two periods of two control steps each


def test_object_move_moves_by_its_severity_once() -> None:
    env = VectorEnv(TASK, 8, seed=0, perturbations=[ObjectMove(0.03, window_s=(0.1, 0.3))])
    still = VectorEnv(TASK, 8, seed=0)
    for each in (env, still):
        each.reset()
    hold = torch.tensor([[0.0, -1.0, 0.9, 1.2, 0.0, 1.0]]).expand(8, 6)
    for _ in range(12):
        env.step(hold)
        still.step(hold)
    moved = (env.sim["qpos"][:, 6:9] - still.sim["qpos"][:, 6:9]).norm(dim=1)
    torch.testing.assert_close(moved, torch.full_like(moved, 0.03), atol=1e-4, rtol=0)


def model_with(change: Callable[[mujoco.MjSpec], None]) -> mujoco.MjModel:
    spec = so101_scene()
    change(spec)
    return spec.compile()


def test_cube_mass_recomputes_derived_constants() -> None:
    env = VectorEnv(TASK, 2, perturbations=[CubeMass(torch.tensor([0.02, 0.5]))])
    env.reset()

    def heavier(spec: mujoco.MjSpec) -> None:
        spec.geom("cube").mass = 0.5

    expected = model_with(heavier)
    for field in ("body_mass", "body_inertia", "body_subtreemass", "dof_invweight0", "body_invweight0", "dof_M0"):
        if not hasattr(expected, field):
            continue
        rows = env.backend.get_param(field).numpy()
        np.testing.assert_allclose(rows[0], getattr(TASK.model, field), rtol=1e-12, err_msg=field)
        np.testing.assert_allclose(rows[1], getattr(expected, field), rtol=1e-10, err_msg=field)


@pytest.mark.parametrize("kind", DYNAMICS, ids=lambda kind: kind.name)
def test_dynamics_need_something_to_scale_and_leave_the_state_alone(kind: type[Perturbation]) -> None:
    nominal, env = VectorEnv(TASK, 2), VectorEnv(TASK, 2, perturbations=[kind(kind.nominal * 1.5)])
    for each in (nominal, env):
        each.reset()
    assert torch.equal(env.sim["qpos"], nominal.sim["qpos"])
    if kind is not Friction:
        bare = mujoco.MjModel.from_xml_string("<mujoco><worldbody><body><geom size='.1'/></body></worldbody></mujoco>")
        with pytest.raises(FermoError, match=kind.name):
            kind(kind.nominal).elements(bare)  # type: ignore[attr-defined]


class TestDelay:
    def sequence(self, perturbation: Perturbation, steps: int = 12) -> tuple[Tensor, Tensor]:
        """True and delivered observations of one driven rollout."""
        envs = [VectorEnv(TASK, 2, seed=1, perturbations=p) for p in ([], [perturbation])]
        rows: list[list[Tensor]] = [[], []]
        for env, kept in zip(envs, rows, strict=True):
            obs, _ = env.reset()
            kept.append(obs)
            for step in range(steps):
                obs, *_ = env.step(torch.full((2, 6), 0.1 * step))
                kept.append(obs)
        return torch.stack(rows[0]), torch.stack(rows[1])

    @pytest.mark.parametrize("whole", [1, 3, 7])
    def test_whole_steps_are_exact(self, whole: int) -> None:
        true, seen = self.sequence(ObservationDelay(whole * TASK.control_dt))
        assert torch.equal(seen[whole:], true[:-whole])
        assert torch.equal(seen[:whole], true[:1].expand(whole, -1, -1))

    def test_half_a_step_is_the_mean(self) -> None:
        true, seen = self.sequence(ObservationDelay(1.5 * TASK.control_dt))
        torch.testing.assert_close(seen[2:], (true[1:-1] + true[:-2]) / 2)

    def test_severities_differ_between_worlds(self) -> None:
        true, seen = self.sequence(ObservationDelay(torch.tensor([0.0, 2 * TASK.control_dt])))
        assert torch.equal(seen[:, 0], true[:, 0]) and torch.equal(seen[2:, 1], true[:-2, 1])

    def test_action_delay_is_exact_and_holds_the_first(self) -> None:
        env = VectorEnv(DIRECT, 2, perturbations=[ActionDelay(2 * TASK.control_dt)])
        env.reset()
        sent, applied = [], []
        for step in range(6):
            sent.append(torch.full((2, 6), 0.1 * step))
            env.step(sent[-1])
            applied.append(env.sim["ctrl"].clone())
        expected = [sent[0], sent[0], *sent[:4]]
        assert torch.equal(torch.stack(applied).float(), torch.stack(expected))

    def test_asking_twice_in_a_step_changes_nothing(self) -> None:
        kinds = [[ObservationDelay(0.05), ObservationDropout(0.5)] for _ in range(2)]
        env, twin = (VectorEnv(TASK, 2, seed=3, perturbations=both) for both in kinds)
        env.reset()
        twin.reset()
        for step in range(10):
            action = torch.full((2, 6), 0.05 * step)
            obs, *_ = env.step(action)
            again = env._observe()
            assert torch.equal(obs, again) and torch.equal(obs, twin.step(action)[0])


def test_saturation_limits_the_speed_exactly() -> None:
    env = VectorEnv(DIRECT, 2, perturbations=[ActionSaturation(torch.tensor([1.0, 2.0]))])
    env.reset()
    applied = []
    for step in range(5):
        env.step(torch.full((2, 6), 0.0 if step == 0 else 0.5))
        applied.append(env.sim["ctrl"][:, 0].clone())
    slow, fast = torch.stack(applied).T
    torch.testing.assert_close(slow, torch.tensor([0.0, 0.04, 0.08, 0.12, 0.16]).double())
    torch.testing.assert_close(fast, torch.tensor([0.0, 0.08, 0.16, 0.24, 0.32]).double())


def test_blend_is_the_convex_combination() -> None:
    env = VectorEnv(DIRECT, 2, perturbations=[AdversarialBlend(0.25, adversary=lambda obs: torch.full((2, 6), 0.8))])
    env.reset()
    env.step(torch.zeros(2, 6))
    torch.testing.assert_close(env.sim["ctrl"], torch.full((2, 6), 0.2).double(), check_dtype=False)
    broken = VectorEnv(TASK, 2, perturbations=[AdversarialBlend(0.25, adversary=lambda obs: obs)])
    broken.reset()
    with pytest.raises(FermoError, match=r"expected \(2, 6\)"):
        broken.step(torch.zeros(2, 6))


def test_noise_has_the_stated_size_in_si_units() -> None:
    scale = torch.linspace(0.1, 1.1, SPEC.observation_size)
    envs = [VectorEnv(TASK, 4000, seed=2, perturbations=p) for p in ([], [ObservationNoise(0.5, scale=scale)])]
    clean, noisy = (env.reset()[0] for env in envs)
    # Standard error of a standard deviation over 4000 draws: 1.1 %.
    torch.testing.assert_close((noisy - clean).std(dim=0), 0.5 * scale, rtol=0.06, atol=0.0)
    actions = VectorEnv(TASK, 2, perturbations=[ActionNoise(0.5, scale=torch.ones(3))])
    actions.reset()
    with pytest.raises(FermoError, match=r"\(3,\) for 6 channels"):
        actions.step(torch.zeros(2, 6))


def test_mistakes_are_named() -> None:
    with pytest.raises(FermoError, match="did you mean 'cube_mass'"):
        make_perturbation("cube_mas", 0.1)
    with pytest.raises(FermoError, match="option of push 'bodi': did you mean 'body'"):
        make_perturbation("push", 1.0, bodi="cube")
    with pytest.raises(FermoError, match="'hand'; this model has base"):
        VectorEnv(TASK, 1, perturbations=[Push(1.0, body="hand")])
    with pytest.raises(FermoError, match="free joint"):
        VectorEnv(TASK, 1, perturbations=[ObjectMove(0.1, body="gripper")])
    with pytest.raises(FermoError, match="duration_s"):
        Push(1.0, duration_s=3.0)
    with pytest.raises(FermoError, match="ordered window"):
        ObjectMove(0.1, window_s=(1.0, 0.5))


def test_gradient_attack_ignores_inference_mode_and_leaves_no_gradients() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(SPEC.observation_size, 8), torch.nn.Tanh(), torch.nn.Linear(8, 6))
    attack = GradientAttack(0.05, policy_map=network)
    env, clean = (VectorEnv(TASK, 3, perturbations=p) for p in ([attack], []))
    with torch.inference_mode():
        seen, true = env.reset()[0], clean.reset()[0]
    assert (seen - true).abs().max() <= 0.05 + 1e-6 and not torch.equal(seen, true)
    assert all(weight.grad is None for weight in network.parameters())
