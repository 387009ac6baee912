"""Settings that mean nothing are refused, and those that do are kept."""

from typing import Any

import pytest
import torch

from fermo.errors import FermoError
from fermo.policies.beso.config import BesoConfig, DiffusionConfig, FlowConfig, GoalConfig
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from tests.policies.beso_policies import GOAL, data, edm, goal_policy, observations, policy


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"context": 0}, "context must be at least 1"),
        ({"chunk": 2, "execute": 3}, "execute must lie between 1 and the chunk's 2"),
        ({"objective": "dppm"}, "unknown objective 'dppm': did you mean 'ddpm'"),
        ({"noise_levels": "share"}, "did you mean 'shared'"),
        ({"stream": True}, "noise_levels streaming"),
        ({"stream": True, "noise_levels": "streaming", "chunk": 2}, "multiple of chunk steps"),
        ({"diffusion": DiffusionConfig(sampler="dpmpp_2m_sde")}, "unknown sampler 'dpmpp_2m_sde'"),
        ({"diffusion": DiffusionConfig(schedule="cosine_beta")}, "did you mean 'cosine'"),
        ({"action_scaling": "z"}, "unknown scaling"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict, problem: str):
    with pytest.raises(FermoError, match=problem):
        BesoConfig(**settings)


@pytest.mark.parametrize(
    ("kind", "settings", "problem"),
    [
        (DiffusionConfig, {"sigma_min": 2.0, "sigma_max": 1.0}, "must lie below sigma_max"),
        (DiffusionConfig, {"start": 0.3, "stop": 0.3}, "falls from start 0.3 to stop 0.3"),
        (DiffusionConfig, {"start": 6.0}, "through levels of training, 0.05 to 5.0"),
        (DiffusionConfig, {"sampler": "lms", "churn": 1.0}, "churn 1.0 does not suit lms"),
        (DiffusionConfig, {"steps": 0}, "steps must be at least 1"),
        (DiffusionConfig, {"scale": -1.0}, "scale must be positive"),
        (FlowConfig, {"integrator": "rk4"}, "unknown flow integrator"),
        (GoalConfig, {"kind": "futur"}, "did you mean 'future'"),
        (GoalConfig, {"kind": "features"}, "needs its size"),
        (GoalConfig, {"kind": "future", "dropout": 0.0, "guidance": 2.0}, "dropout above 0"),
        (GoalConfig, {"signals": ("position",)}, "belong to future goals"),
        (GoalConfig, {"guidance_interval": (2.0, 1.0)}, "two rising noise levels"),
    ],
)
def test_groups_of_settings_check_themselves(kind: Any, settings: dict, problem: str):
    with pytest.raises(FermoError, match=problem):
        kind(**settings)


def test_a_goal_signal_that_the_plant_lacks_is_refused():
    with pytest.raises(FermoError, match="unknown goal signal 'positon': did you mean 'position'"):
        goal_policy(signals=("positon",))


@pytest.mark.parametrize(
    ("diffusion", "problem"),
    [
        (DiffusionConfig(sigma_max=0.9), "starts at 0.9, below the scaled actions' standard deviation 1"),
        (DiffusionConfig(start=0.8), "starts at 0.8, below"),
        (DiffusionConfig(sigma_min=0.6), "sigma_min 0.6 is over half"),
    ],
)
def test_noise_that_cannot_hold_the_data_is_refused(diffusion: DiffusionConfig, problem: str):
    with pytest.raises(FermoError, match=problem):
        policy(diffusion=diffusion)


def test_sampling_visits_levels_from_start_to_stop_or_all_of_trainings():
    for config, wanted in ((DiffusionConfig(start=3.0, stop=0.3), (3.0, 0.3)), (DiffusionConfig(), (5.0, 0.05))):
        highest, between, lowest, end = policy(diffusion=config).objective.levels()
        assert (highest, lowest, end) == (*wanted, 0.0) and between == pytest.approx((highest * lowest) ** 0.5)


def test_sigma_data_is_measured_unless_it_is_given():
    assert float(edm(policy()).sigma_data) == pytest.approx(1.0)
    halved = edm(policy(action_scaling="min_max")).sigma_data
    scaled = policy(action_scaling="min_max").action_normalizer(data()[1])
    assert float(halved) == pytest.approx(float(scaled.std(0, correction=0).square().mean().sqrt()), rel=1e-5)
    assert float(edm(policy(diffusion=DiffusionConfig(sigma_data=0.5))).sigma_data) == 0.5


@pytest.mark.parametrize("kind", ["log_logistic", "log_normal", "log_uniform", "uniform", "v_diffusion", "discrete",
                                  "split_log_normal"])  # fmt: skip
def test_every_density_can_be_trained_with(kind: Any):
    made = policy(diffusion=DiffusionConfig(density=kind))
    levels = made.objective.draw_levels((1000,), torch.zeros(1))
    assert (levels > 0).all() and levels.isfinite().all()
    assert made({"observation": torch.zeros(2, 3), "action": torch.zeros(2, 2)})[0].isfinite()


def test_a_checkpoint_keeps_every_group_of_settings(tmp_path):
    goal = GoalConfig(kind="future", signals=("position",), guidance=2.0, guidance_interval=(0.1, 1.0))
    made = policy(chunk=2, goal=goal, diffusion=DiffusionConfig(sampler="heun", location=-0.5))
    made.set_goal(GOAL)
    loaded = load_checkpoint(save_checkpoint(made, tmp_path / "checkpoint"))
    assert isinstance(loaded, BesoPolicy) and loaded.config == made.config
    loaded.set_goal(GOAL)
    obs = observations()
    assert torch.equal(loaded.predict_action_chunk(obs), made.predict_action_chunk(obs))
    card = (tmp_path / "checkpoint/README.md").read_text()
    assert "| `diffusion.sampler` | heun |" in card and "it draws its actions from a distribution" in card
