"""What every policy family must do; a new family adds its name to FAMILIES and inherits it all."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch

from fermo.errors import FermoError
from fermo.policies import registry
from fermo.policies.base import Policy, SolvedPolicy
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.policies.export_onnx import export_onnx
from fermo.policies.verify import verify_checkpoint
from fermo.training.loops.bc import BcConfig, train_bc
from fermo.training.loops.solve import train_solve
from fermo.training.loops.solve_config import SolveConfig
from tests.policies.plants import SPEC, demonstrations, fitted_policy

FAMILIES = ("mlp_bc", "lipschitz_bc", "actor_mlp", "lipschitz_extension", "smooth_bc", "beso", "goal_bc")


@pytest.fixture(params=FAMILIES)
def policy(request: pytest.FixtureRequest) -> Policy:
    return fitted_policy(request.param)


def test_every_registered_family_is_under_contract():
    assert set(FAMILIES) == set(registry.FAMILIES)


@pytest.mark.parametrize("worlds", [1, 7])
def test_shapes_and_dtype(policy: Policy, worlds: int):
    obs = demonstrations(worlds)[0]
    chunk = policy.predict_action_chunk(obs)
    assert chunk.shape == (worlds, policy.horizon, SPEC.command_size)
    assert policy.select_action(obs).shape == (worlds, SPEC.command_size)
    assert chunk.dtype == torch.float32 and chunk.device == obs.device


def test_observations_of_double_precision_are_accepted(policy: Policy):
    obs = demonstrations(7)[0]
    double = policy.select_action(obs.double())
    policy.reset()
    torch.testing.assert_close(double, policy.select_action(obs), check_dtype=False)


def test_first_action_of_the_chunk_is_the_selected_one_after_reset(policy: Policy):
    obs = demonstrations(7)[0]
    policy.reset()
    action = policy.select_action(obs)
    policy.reset()
    assert torch.equal(policy.predict_action_chunk(obs)[:, 0], action)


def test_same_observation_gives_same_action_and_reset_of_one_world_leaves_the_others(policy: Policy):
    obs = demonstrations(7)[0]
    policy.reset()
    first = policy.select_action(obs)
    policy.reset(torch.arange(7) == 3)
    again = fitted_policy(policy.family)
    assert torch.equal(again.select_action(obs), first)
    policy.reset()
    assert torch.equal(policy.select_action(obs), first)


def test_a_family_config_is_frozen_and_keyword_only(policy: Policy):
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy.config.seed = 1
    assert all(field.kw_only for field in dataclasses.fields(policy.config))


def test_making_a_policy_leaves_the_global_random_state_alone(policy: Policy):
    before = torch.get_rng_state()
    fitted_policy(policy.family)
    assert torch.equal(torch.get_rng_state(), before)


def test_actions_stay_inside_the_commands_bounds(policy: Policy):
    actions = policy.select_action(100 * demonstrations(4096)[0])
    assert (actions.abs() <= 2.0).all() and (actions.abs() == 2.0).any()


def test_stable_baselines_predict_takes_one_observation_or_many(policy: Policy):
    obs = demonstrations(7)[0]
    many, state = policy.predict(obs.numpy(), state="kept", episode_start=np.ones(7, dtype=bool))
    one, _ = policy.predict(obs[0].numpy())
    assert many.shape == (7, 6) and one.shape == (6,) and state == "kept"
    np.testing.assert_allclose(many[0], one, atol=1e-5)


def test_nan_reaches_the_action_of_its_world_and_of_no_other(policy: Policy):
    obs = demonstrations(7)[0]
    clean = policy.select_action(obs).detach()
    policy.reset()
    spoilt = obs.clone()
    spoilt[3, 5] = torch.nan
    action = policy.select_action(spoilt)
    others = torch.arange(7) != 3
    assert action[3].isnan().all()
    assert torch.equal(action[others], clean[others])
    assert policy.select_action(obs).isfinite().all(), "what was not a number must not be remembered"


def test_actions_are_differentiable_in_the_observation(policy: Policy):
    obs = demonstrations(7)[0].requires_grad_(True)
    (gradient,) = torch.autograd.grad(policy.select_action(obs).sum(), obs)
    assert torch.isfinite(gradient).all() and (gradient.abs().sum(1) > 0).all()


def test_checkpoint_gives_bitwise_the_same_actions(policy: Policy, tmp_path):
    obs = demonstrations(7)[0]
    expected = policy.select_action(obs)
    loaded = load_checkpoint(save_checkpoint(policy, tmp_path / "checkpoint"))
    assert torch.equal(loaded.select_action(obs), expected)
    policy.reset()
    assert torch.equal(policy.select_action(obs), expected), "saving must not change the policy"
    assert (loaded.spec, loaded.config, loaded.horizon) == (policy.spec, policy.config, policy.horizon)


def test_certificate_survives_its_checkpoint_or_is_plainly_absent(policy: Policy, tmp_path):
    folder, certificate = save_checkpoint(policy, tmp_path / "checkpoint"), policy.certificate()
    if certificate is None:
        assert not (folder / "certificate.json").exists()
    else:
        assert verify_checkpoint(folder)["lipschitz"] == pytest.approx(certificate["lipschitz"], rel=1e-9)


def test_onnx_gives_the_same_actions_for_any_batch(policy: Policy, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    if policy.why_not_exportable() is not None:
        with pytest.raises(FermoError, match="no ONNX graph of that"):
            export_onnx(policy, tmp_path / "policy.onnx")
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        path = export_onnx(policy, tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(path)
    for worlds in (1, 7):
        obs = demonstrations(worlds)[0]
        (chunk,) = session.run(None, {"obs": obs.numpy()})
        np.testing.assert_allclose(chunk, policy.predict_action_chunk(obs).detach().numpy(), atol=2e-6)
    assert '"joint_target"' in session.get_modelmeta().custom_metadata_map["fermo.plant"]


def test_training_on_a_linear_teacher_lowers_the_loss(policy: Policy):
    observations, actions = demonstrations()
    policy = registry.make_policy(policy.family, SPEC, policy.config)
    policy.fit_normalization(observations, actions)
    batch = {"observation": observations, "action": actions[:, None]}
    before = policy(batch)[0].item()
    if isinstance(policy, SolvedPolicy):
        train_solve(policy, observations, actions, config=SolveConfig(samples=256))
    else:
        train_bc(policy, observations, actions, config=BcConfig(steps=60, batch_size=256, lr=5e-3, warmup_steps=5))
    assert policy(batch)[0].item() < 0.5 * before


def test_unfit_data_are_refused_before_training(policy: Policy):
    observations, actions = demonstrations()
    observations[4, 2] = torch.inf
    with pytest.raises(FermoError, match="sample 4 of 'joint_position'"):
        policy.fit_normalization(observations, actions)
