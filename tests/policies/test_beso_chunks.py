"""Chunks, prefixes and streams."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.beso.config import DdpmConfig, DiffusionConfig, FlowConfig
from fermo.policies.beso.policy import BesoPolicy
from tests.policies.beso_policies import (
    STD,
    WIDE,
    ExactDenoiser,
    ExactVelocity,
    counted,
    edm,
    moments,
    observations,
    policy,
)


def test_a_chunk_is_carried_out_before_the_next_one_and_worlds_reset_apart():
    made = policy(chunk=4, execute=3)
    batches = counted(made)
    stream = [observations(seed=seed) for seed in range(4)]
    chunk = made.predict_action_chunk(stream[0])
    assert chunk.shape == (5, 4, 2)
    taken = [made.select_action(stream[0]), made.select_action(stream[1])]
    made.reset(torch.arange(5) == 1)
    taken.append(made.select_action(stream[2]))
    others = torch.arange(5) != 1
    for step in range(3):
        torch.testing.assert_close(taken[step][others], chunk[others, step])
    assert not torch.allclose(taken[2][1], chunk[1, 2])
    assert len(batches) == 3 * 3  # the chunk asked for, the first one taken, and world 1's new one; three steps each
    made.select_action(stream[3])
    assert len(batches) == 4 * 3


@pytest.mark.parametrize("sampler", ["ddim", "heun", "euler_ancestral", "dpmpp_sde", "lms"])
def test_a_prefix_is_kept_and_the_rest_follows_it(sampler: Any):
    diffusion = DiffusionConfig(sampler=sampler)
    made, obs = policy(chunk=4, diffusion=diffusion), observations()
    free = made.predict_action_chunk(obs)
    prefix = free[:, :2] + 1.0
    held = made.predict_action_chunk(obs, prefix)
    assert torch.equal(held[:, :2], prefix)
    assert not torch.allclose(held[:, 2:], free[:, 2:])
    assert torch.equal(made.predict_action_chunk(obs, free[:, :0]), free)
    assert torch.equal(made.predict_action_chunk(obs, free), free), "all decided"


@pytest.mark.parametrize("objective", ["edm", "ddpm", "flow"])
def test_the_network_is_told_that_past_and_prefix_are_clean(objective: Any):
    made, obs = policy(chunk=3, objective=objective), observations()
    for seed in range(3):
        made.select_action(observations(seed=seed))
    told = []

    class Spy(nn.Module):
        def forward(self, actions: Tensor, levels: Tensor, *rest: Any) -> Tensor:
            told.append((actions, levels))
            return torch.zeros_like(actions)

    made.network = Spy()  # type: ignore[assignment]
    prefix = torch.ones(5, 1, 2)
    made.predict_action_chunk(obs, prefix)
    clean = made.objective.network_level(torch.zeros(5, 3))
    known = torch.cat([made._memory.actions, prefix], 1)  # type: ignore[union-attr]
    for actions, levels in told:
        torch.testing.assert_close(levels[:, :3], clean)
        assert (levels[:, 3:] > clean[:, :1]).all()
        expected = made.objective.network_input(made.action_normalizer(known), torch.zeros(5, 3))
        torch.testing.assert_close(actions[:, :3], expected)


def test_a_prefix_that_does_not_fit_is_refused():
    made, obs = policy(chunk=3), observations()
    for shape in [(5, 4, 2), (4, 1, 2), (5, 1, 3), (5, 2)]:
        with pytest.raises(FermoError, match="the prefix has shape"):
            made.predict_action_chunk(obs, torch.zeros(shape))
    with pytest.raises(FermoError, match="trained with noise_levels prefix or streaming"):
        policy(chunk=3, noise_levels="shared").predict_action_chunk(obs, torch.zeros(5, 1, 2))


def stream_policy(objective: Any = "edm") -> BesoPolicy:
    return policy(chunk=4, stream=True, noise_levels="streaming", objective=objective,
                  diffusion=DiffusionConfig(steps=8, sigma_data=1.0), ddpm=DdpmConfig(steps=8),
                  flow=FlowConfig(steps=8))  # fmt: skip


@pytest.mark.parametrize("objective", ["edm", "ddpm", "flow"])
def test_a_stream_costs_a_share_of_the_steps_and_starts_with_a_whole_chunk(objective: Any):
    made = stream_policy(objective)
    batches = counted(made)
    for calls in (8 + 2, 2, 2):  # eight steps and a chunk of four
        before = len(batches)
        assert made.select_action(observations()).isfinite().all()
        assert len(batches) - before == calls


@pytest.mark.parametrize("objective", ["edm", "flow"])
def test_a_stream_samples_the_exact_distribution_in_the_long_run(objective: Any):
    """By Euler's method over as many levels, whose error the one-shot sampler shares."""
    made = policy(context=1, chunk=2, stream=True, noise_levels="streaming", objective=objective, diffusion=WIDE,
                  flow=FlowConfig(steps=40))  # fmt: skip
    made.network = ExactDenoiser(edm(made).sigma_data) if objective == "edm" else ExactVelocity()  # type: ignore
    obs = observations(1)
    for _ in range(4):
        mean, std = moments(made, obs)
        torch.testing.assert_close(mean, made.observation_normalizer(obs)[0, :2], atol=0.06, rtol=0)
        assert std.tolist() == pytest.approx([STD, STD], rel=0.08)


def test_a_stream_of_one_world_restarts_without_the_others():
    made, other = stream_policy(), stream_policy()
    obs = [observations(seed=seed) for seed in range(3)]
    for step in range(2):
        made.select_action(obs[step])
        other.select_action(obs[step])
    made.reset(torch.arange(5) == 4)
    first, second = made.select_action(obs[2]), other.select_action(obs[2])
    torch.testing.assert_close(first[:4], second[:4])
    assert not torch.allclose(first[4], second[4])
