"""The objective `ddpm` against Gaussian data, Ho et al.'s own algorithm and the probability-flow ODE."""

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.beso.config import BesoConfig, DdpmConfig, GoalConfig
from fermo.policies.beso.ddpm import Ddpm, squared_cosine
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.beso.samplers import SAMPLERS
from fermo.policies.checkpoint import load_checkpoint, save_checkpoint
from fermo.training.loops.bc import train_bc
from fermo.training.loops.bc_config import BcConfig
from tests.policies.beso_policies import SMALL, SPEC, STD, counted, data, moments, observations, policy
from tests.policies.test_goal_bc import two_ways

MEAN = torch.tensor([0.7, -0.4], dtype=torch.float64)
COVARIANCE = torch.tensor([[0.8, 0.3], [0.3, 0.25]], dtype=torch.float64)


def objective(*, clip_sample: bool = False, **settings: Any) -> Ddpm:
    return Ddpm(DdpmConfig(clip_sample=clip_sample, **settings), action_size=2)


def exact_epsilon(made: Ddpm):
    """E[epsilon | x] for ``clean ~ N(MEAN, COVARIANCE)``: affine in x."""

    def epsilon(x: Tensor, t: float) -> Tensor:
        signal, spread = made.shares[int(t)]
        marginal = signal**2 * COVARIANCE + spread**2 * torch.eye(2, dtype=torch.float64)
        return spread * torch.linalg.solve(marginal, (x - signal * MEAN)[..., None])[..., 0]

    return epsilon


def no_noise(like: Tensor) -> Tensor:
    return torch.zeros_like(like)


def sampled_moments(made: Ddpm) -> tuple[Tensor, Tensor]:
    """Mean and covariance of samples with the exact network, exactly.

    A sample is affine in its start and in each draw of noise, all standard normal, so that the covariance is the sum
    of the outer products of what unit vectors in their places do.
    """
    places, draws = 2 * (made.config.steps + 1), iter(range(1, made.config.steps + 1))

    def unit(like: Tensor, draw: int) -> Tensor:
        noise = torch.zeros_like(like)
        noise[1 + 2 * draw : 3 + 2 * draw] = torch.eye(2, dtype=torch.float64)
        return noise

    start = unit(torch.zeros(1 + places, 2, dtype=torch.float64), 0)
    ends = made.sample(exact_epsilon(made), start, lambda like: unit(like, next(draws)))
    slopes = ends[1:] - ends[:1]
    return ends[0], slopes.T @ slopes


# The schedule


def test_squared_cosine_is_its_closed_form_until_the_last_beta_is_cut_off():
    alpha_bar = squared_cosine(100)
    f = [math.cos((t / 100 + 0.008) / 1.008 * math.pi / 2) ** 2 for t in range(101)]
    assert alpha_bar[:100].tolist() == pytest.approx([value / f[0] for value in f[:100]], rel=1e-9)
    assert float(alpha_bar[100] / alpha_bar[99]) == pytest.approx(1 - 0.999)
    assert alpha_bar[0] == 1 and (alpha_bar.diff() < 0).all()


@pytest.mark.parametrize(("total", "steps"), [(100, 100), (100, 10), (100, 7), (50, 1), (3, 2)])
def test_sampling_visits_distinct_steps_from_the_last_to_zero(total: int, steps: int):
    levels = objective(training_steps=total, steps=steps).levels()
    assert (len(levels), levels[0], levels[-1]) == (steps + 1, total, 0)
    assert all(after < before and after.is_integer() for before, after in pairwise(levels))
    gaps = [before - after for before, after in pairwise(levels)]
    assert max(gaps) - min(gaps) <= 1


# Sampling


def test_ddpm_over_all_steps_is_ho_et_als_algorithm():
    """``x = (x - beta / sqrt(1 - ab) epsilon) / sqrt(alpha) + sigma z`` with their smaller variance, any network."""
    made, alpha_bar = objective(training_steps=40, steps=40), squared_cosine(40).tolist()
    draws = [torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(t)) for t in range(41)]
    network = lambda x, t: torch.tanh(x.flip(-1) + 0.1 * t)  # noqa: E731
    stream = iter(draws[1:])
    ours = made.sample(network, draws[0], lambda like: next(stream))
    x, stream = draws[0], iter(draws[1:])
    for t in range(40, 0, -1):
        alpha, variance = alpha_bar[t] / alpha_bar[t - 1], (1 - alpha_bar[t - 1]) / (1 - alpha_bar[t])
        x = (x - (1 - alpha) / math.sqrt(1 - alpha_bar[t]) * network(x, t)) / math.sqrt(alpha)
        if t > 1:
            x = x + math.sqrt(variance * (1 - alpha)) * next(stream)
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_the_exact_epsilon_gives_the_datas_mean_and_covariance_at_first_order(sampler: Any):
    """Both samplers are exact in the limit of many steps, and half as wrong with twice as many."""
    errors = []
    for steps in (100, 200, 400):
        mean, covariance = sampled_moments(objective(training_steps=steps, steps=steps, sampler=sampler))
        torch.testing.assert_close(mean, MEAN, atol=2e-3, rtol=0)
        errors.append(float((covariance - COVARIANCE).abs().max()))
    assert errors[0] < 0.05
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([1, 1], abs=0.25)


def test_ddim_over_all_steps_is_the_probability_flow_to_first_order():
    """In ``x / sqrt(ab)`` and sigma = sqrt(1 - ab) / sqrt(ab) the flow keeps ``(x - mean) / sqrt(std^2 + sigma^2)``."""
    start = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
    errors = []
    for steps in (100, 200, 400):
        made = objective(training_steps=steps, steps=steps, sampler="ddim")
        signal, spread = made.shares[-1]

        def epsilon(x: Tensor, t: float, made: Ddpm = made) -> Tensor:
            signal, spread = made.shares[int(t)]
            return spread * (x - signal * 0.7) / (signal**2 * STD**2 + spread**2)

        exact = 0.7 + (start / signal - 0.7) * STD / math.sqrt(STD**2 + (spread / signal) ** 2)
        errors.append(float((made.sample(epsilon, start, no_noise) - exact).abs().max()))
    assert errors[0] < 0.03
    assert [math.log2(a / b) for a, b in pairwise(errors)] == pytest.approx([1, 1], abs=0.25)


@pytest.mark.parametrize("steps", [1, 10, 100])
def test_ddim_is_eulers_method_of_the_other_samplers(steps: int):
    made = objective(steps=steps, sampler="ddim")
    network = exact_epsilon(made)
    sigmas = [made.shares[int(t)][1] / made.shares[int(t)][0] for t in made.levels()]
    times = dict(zip(sigmas, made.levels(), strict=True))

    def denoise(x: Tensor, sigma: float) -> Tensor:
        signal = made.shares[int(times[sigma])][0]
        return x - sigma * network(signal * x, times[sigma])

    start = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    by_euler = SAMPLERS["euler"].run(denoise, start / made.shares[-1][0], sigmas, no_noise)
    torch.testing.assert_close(made.sample(network, start, no_noise), by_euler, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_estimates_kept_in_the_demonstrated_range_keep_a_wrong_network_there(sampler: Any):
    wrong = lambda x, t: 0.5 * x  # noqa: E731
    ends = {}
    for clip_sample in (True, False):
        made = objective(sampler=sampler, clip_sample=clip_sample)
        made.fit(torch.tensor([[-1.0, -2.0], [1.0, 3.0], [0.0, 0.0]]))
        ends[clip_sample] = made.sample(wrong, torch.ones(4, 2), torch.randn_like)
    low, high = torch.tensor([-1.0, -2.0]), torch.tensor([1.0, 3.0])
    assert ((ends[True] >= low) & (ends[True] <= high)).all()
    assert float(ends[False].abs().max()) > 10


# The whole policy


class ExactEpsilon(nn.Module):
    """Of scaled actions that are normal around the scaled position."""

    def __init__(self, made: BesoPolicy) -> None:
        super().__init__()
        assert isinstance(made.objective, Ddpm)
        self.objective = made.objective

    def forward(self, x: Tensor, levels: Tensor, states: Tensor, observed: Tensor, goal: Tensor | None) -> Tensor:
        t = (levels * self.objective.config.training_steps).round().long()[..., None]
        signal, spread = self.objective.signal[t], self.objective.spread[t]
        return spread * (x - signal * states[:, -1:, :2]) / (signal**2 * STD**2 + spread**2)


def ddpm_policy(**settings: Any) -> BesoPolicy:
    return policy(**({"objective": "ddpm", "ddpm": DdpmConfig(steps=10, sampler="ddim")} | settings))


@pytest.mark.parametrize("ddpm", [DdpmConfig(clip_sample=False), DdpmConfig(clip_sample=False, sampler="ddim")])
def test_the_whole_chain_samples_the_exact_distribution_in_si_units(ddpm: DdpmConfig):
    made = ddpm_policy(context=1, ddpm=ddpm)
    made.network = ExactEpsilon(made)  # type: ignore[assignment]
    obs = observations(1)
    mean, std = moments(made, obs)
    torch.testing.assert_close(mean, made.observation_normalizer(obs)[0, :2], atol=0.06, rtol=0)
    assert std.tolist() == pytest.approx([STD, STD], rel=0.08)


def test_an_exact_network_leaves_the_loss_its_chance():
    """That of epsilon given ``x_t``: ``ab std^2 / (ab std^2 + 1 - ab)``, over all t alike."""
    made = ddpm_policy()
    made.network = ExactEpsilon(made)  # type: ignore[assignment]
    obs = observations(20_000)
    noise = torch.randn(20_000, 2, generator=torch.Generator().manual_seed(5))
    action = made.action_normalizer.inverse(made.observation_normalizer(obs)[:, :2] + STD * noise)
    torch.manual_seed(0)
    loss = made({"observation": obs, "action": action})[0]
    signal = squared_cosine(100)[1:] * STD**2
    assert float(loss) == pytest.approx(float((signal / (signal + 1 - squared_cosine(100)[1:])).mean()), rel=0.03)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_a_sample_costs_its_steps_and_twice_the_batch_where_guided(sampler: Any):
    made = ddpm_policy(ddpm=DdpmConfig(steps=12, sampler=sampler), goal=GoalConfig(kind="future", guidance=2.0))
    batches = counted(made)
    made.select_action(observations())
    assert batches == [5] * 12
    made.set_goal(torch.zeros(1, 3))
    made.select_action(observations())
    assert batches[12:] == [10] * 12


def test_a_stream_of_ddim_steps_samples_the_exact_distribution_in_the_long_run():
    made = ddpm_policy(context=1, chunk=2, stream=True, noise_levels="streaming",
                       ddpm=DdpmConfig(clip_sample=False))  # fmt: skip
    made.network = ExactEpsilon(made)  # type: ignore[assignment]
    obs = observations(1)
    for _ in range(3):
        mean, std = moments(made, obs)
        torch.testing.assert_close(mean, made.observation_normalizer(obs)[0, :2], atol=0.06, rtol=0)
        assert std.tolist() == pytest.approx([STD, STD], rel=0.08)


def test_one_training_keeps_both_of_two_ways_by_ddpm_and_by_fewer_steps_of_ddim():
    obs, actions, _ = two_ways()
    made = BesoPolicy(SPEC, BesoConfig(objective="ddpm", context=1, network=replace(SMALL, width=32)))
    train_bc(made, obs, actions, config=BcConfig(steps=400, batch_size=256, lr=5e-3, ema_decay=0.99))
    for ddpm in (DdpmConfig(), DdpmConfig(sampler="ddim", steps=10)):
        acting = BesoPolicy(SPEC, replace(made.config, ddpm=ddpm))
        acting.load_state_dict(made.state_dict())
        taken = acting.eval().requires_grad_(False).select_action(obs)
        assert float((taken.abs() > 0.7).all(1).float().mean()) > 0.9
        assert float((taken[:, 0] > 0).float().mean()) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("noise_levels", ["prefix", "streaming", "shared"])
def test_training_noises_by_whole_steps_and_a_checkpoint_acts_the_same(noise_levels: Any, tmp_path):
    made = ddpm_policy(noise_levels=noise_levels, chunk=2)
    levels = made.objective.draw_levels((1000,), torch.zeros(1))
    assert set(levels.tolist()) <= set(range(1, 101)) and len(levels.unique()) > 95
    obs = observations()
    batch = {"observation": torch.randn(4, 3, 3), "action": torch.randn(4, 4, 2)}
    assert made(batch)[0].isfinite()
    loaded = load_checkpoint(save_checkpoint(made, tmp_path / "checkpoint"))
    assert isinstance(loaded, BesoPolicy) and loaded.config == made.config
    assert torch.equal(loaded.select_action(obs), made.select_action(obs))


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"steps": 101}, "steps must lie between 1 and the training's 100, got 101"),
        ({"training_steps": 1}, "training_steps must be at least 2"),
        ({"sampler": "dim"}, "unknown ddpm sampler 'dim': did you mean 'ddim'"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict, problem: str):
    with pytest.raises(FermoError, match=problem):
        DdpmConfig(**settings)


def test_actions_that_the_noise_would_drown_are_refused():
    made = BesoPolicy(SPEC, BesoConfig(objective="ddpm", action_scaling="none"))
    obs, actions = data()
    with pytest.raises(FermoError, match=r"smallest noise .* take action_scaling standard or min_max"):
        made.fit_normalization(obs, 1e-3 * actions)
