"""What a policy remembers of its worlds, and whose noise is whose."""

from dataclasses import replace

import pytest
import torch

from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.windowed.world_noise import world_noise
from tests.policies.beso_policies import SPEC, observations, policy


def test_the_context_is_what_was_seen_and_done_and_a_reset_world_has_none():
    made, stream = policy(), [observations(seed=seed) for seed in range(4)]
    taken = [made.select_action(obs) for obs in stream]
    memory = made._memory
    assert memory is not None and memory.present.all()
    torch.testing.assert_close(memory.observations, torch.stack(stream[-2:], 1))
    torch.testing.assert_close(memory.actions, torch.stack(taken[-2:], 1))
    made.reset(torch.arange(5) == 2)
    assert memory.present.sum(1).tolist() == [2, 2, 0, 2, 2]
    assert memory.episode.tolist() == [0, 0, 1, 0, 0] and memory.step.tolist() == [4, 4, 0, 4, 4]


def test_a_batch_of_another_size_begins_anew():
    made, obs = policy(), observations()
    made.select_action(obs)
    made.reset(torch.ones(3, dtype=torch.bool))
    assert torch.equal(made.select_action(obs[:3]), policy().select_action(obs[:3]))


def test_the_past_matters_and_asking_twice_leaves_no_trace():
    made, obs = policy(), observations()
    made.select_action(observations(seed=8))
    first = made.predict_action_chunk(obs)
    assert torch.equal(made.predict_action_chunk(obs), first)
    assert torch.equal(made.select_action(obs), first[:, 0])
    made.reset()
    made.select_action(observations(seed=9))
    assert not torch.equal(made.predict_action_chunk(obs), first)


def test_what_was_really_done_can_be_remembered_instead():
    ours, theirs, obs = policy(), policy(), observations()
    action = ours.select_action(obs)
    theirs.remember(obs, action)
    assert torch.equal(ours.predict_action_chunk(obs), theirs.predict_action_chunk(obs))
    theirs.reset()
    theirs.remember(obs, action + 1.0)
    assert not torch.equal(ours.predict_action_chunk(obs), theirs.predict_action_chunk(obs))


def test_a_worlds_noise_depends_on_seed_world_episode_and_step_alone():
    wide, narrow = policy(), policy()
    obs = observations(7)
    torch.testing.assert_close(wide.select_action(obs)[:3], narrow.select_action(obs[:3]))
    other = BesoPolicy(SPEC, replace(wide.config, seed=1))
    other.load_state_dict(wide.state_dict())
    wide.reset()
    assert not torch.equal(other.eval().select_action(obs), wide.select_action(obs))


def test_an_episode_after_the_first_has_other_noise_and_a_full_reset_the_first_ones():
    made, obs = policy(), observations()
    first = made.select_action(obs)
    made.reset(torch.ones(5, dtype=torch.bool))
    assert not torch.allclose(made.select_action(obs), first)
    made.reset()
    assert torch.equal(made.select_action(obs), first)


def test_world_noise_is_standard_normal_and_independent_between_keys():
    like = torch.empty(500, 40, dtype=torch.float64)
    noise = [world_noise(like, 7, torch.arange(500), step) for step in (0, 1)]
    for drawn in noise:
        assert float(drawn.mean()) == pytest.approx(0, abs=0.03) and float(drawn.std()) == pytest.approx(1, abs=0.02)
        share = (drawn.abs() < 1.0).double().mean()
        assert float(share) == pytest.approx(0.6827, abs=0.01)
    shifted = [noise[0].roll(1, 0), noise[0].roll(1, 1)]
    correlation = torch.corrcoef(torch.stack([each.flatten() for each in noise + shifted])) - torch.eye(4)
    assert float(correlation.abs().max()) < 0.03
