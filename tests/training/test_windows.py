"""Windows of episodes: what lies in them, which goals they get, and how training uses and refuses them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fermo.errors import FermoError
from fermo.policies.beso.config import BesoConfig, DiffusionConfig, GoalConfig
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.checkpoint import load_checkpoint
from fermo.policies.registry import make_policy
from fermo.policies.window import ColumnGoal, FutureGoal, Window
from fermo.policies.windowed.config import TransformerConfig
from fermo.training.data.goals import column_goals, future_goal_frames, goal_frames, truncated_goal_frames
from fermo.training.data.reader import Dataset
from fermo.training.data.samples import WindowSamples, make_samples
from fermo.training.data.writer import DatasetWriter
from fermo.training.fit import fit
from fermo.training.loops.bc import BcTrainer, train_bc
from fermo.training.loops.bc_config import BcConfig
from tests.policies.plants import SPEC, demonstrations, fitted_policy

LENGTHS = (4, 1, 6)
EPISODES = torch.tensor([0] * 4 + [1] + [2] * 6)
SMALL = TransformerConfig(layers=1, heads=2, width=16)


def frames() -> dict[str, Tensor]:
    """Frame i observes i and does 100 + i."""
    number = torch.arange(float(sum(LENGTHS)))[:, None]
    return {"observation": number, "action": 100 + number}


def batch(window: Window, chosen: list[int], episodes: Tensor = EPISODES) -> dict[str, Tensor]:
    samples = make_samples(frames(), window, episodes)
    return samples.batch(torch.tensor(chosen), torch.Generator().manual_seed(0))


def test_a_window_ends_with_the_frame_and_stays_in_its_episode():
    made = batch(Window(past=3, ahead=2), [0, 2, 3, 4, 6])
    assert made["observation"][:, :, 0].tolist() == [[0, 0, 0], [0, 1, 2], [1, 2, 3], [4, 4, 4], [5, 5, 6]]
    assert made["observed"].tolist() == [
        [False, False, True], [True] * 3, [True] * 3, [False, False, True], [False, True, True],
    ]  # fmt: skip
    assert made["action"][:, :, 0].tolist() == [
        [100, 100, 100, 101], [100, 101, 102, 103], [101, 102, 103, 103], [104, 104, 104, 104], [105, 105, 106, 107],
    ]  # fmt: skip
    assert made["acted"].tolist() == [
        [False, False, True, True], [True] * 4, [True] * 3 + [False], [False, False, True, False],
        [False, True, True, True],
    ]  # fmt: skip
    assert "goal" not in made


def test_no_window_looks_further_back_than_the_longest_episode():
    made = batch(Window(past=50), [10])
    assert made["observation"].shape == (1, 6, 1) and made["observed"].all()
    alone = batch(Window(past=5), [3], torch.arange(11))
    assert alone["observation"].shape == (1, 1, 1)


@given(st.integers(1, 4), st.integers(0, 30), st.integers(0, 30), st.floats(0, 1, exclude_max=True))
def test_a_future_goal_lies_ahead_in_the_episode_as_far_as_there_is_room(frames: int, now: int, more: int, u: float):
    last = now + more
    if last + 1 <= frames:
        return
    places, there = future_goal_frames(torch.tensor([now]), torch.tensor([last]), frames, torch.tensor([u]))
    assert there.all() and places.shape == (1, frames)
    assert places[0, -1] <= last and (places.diff() == 1).all()
    assert places[0, 0] > now or places[0, -1] == last


def test_every_future_goal_is_as_likely_the_last_frame_included():
    u = (torch.arange(10_000) + 0.5) / 10_000
    now, last = torch.full((10_000,), 2), torch.full((10_000,), 7)
    places, _ = future_goal_frames(now, last, 1, u)
    assert places.unique(return_counts=True)[1].tolist() == [2000] * 5 and places.max() == 7
    places, there = truncated_goal_frames(now, last, 1, u)
    assert places.unique(return_counts=True)[1].tolist() == [2500] * 4 and places.max() == 6 and there.all()


def test_a_share_of_the_goals_are_ends_and_the_others_as_likely_as_without():
    u = (torch.arange(10_000) + 0.5) / 10_000
    now, last = torch.full((10_000,), 2), torch.full((10_000,), 7)
    places, there = goal_frames(FutureGoal(ends=0.5), now, last, u)
    assert places.unique(return_counts=True)[1].tolist() == [1000] * 4 + [6000] and there.all()
    places, _ = goal_frames(FutureGoal(frames=2, ends=1.0), now, last, u)
    assert torch.equal(places, torch.tensor([[6, 7]]).expand(10_000, 2))
    assert torch.equal(goal_frames(FutureGoal(), now, last, u)[0], future_goal_frames(now, last, 1, u)[0])


def test_goals_come_with_the_batch_and_follow_its_generator():
    window = Window(past=2, goal=FutureGoal(frames=2))
    samples = WindowSamples(frames(), torch.tensor([0] * 5 + [1] * 6), window)
    first, again, other = (samples.batch(torch.arange(11), torch.Generator().manual_seed(s))["goal"] for s in (1, 1, 2))
    assert first.shape == (11, 2, 1) and torch.equal(first, again) and not torch.equal(first, other)
    assert first[4, :, 0].tolist() == [3, 4] and first[10, :, 0].tolist() == [9, 10]


def test_an_episode_too_short_for_its_goals_is_named():
    with pytest.raises(FermoError, match="episode 1 has 1 frames, and a goal of 1 from its future needs at least 2"):
        batch(Window(past=2, goal=FutureGoal()), [0])


def test_episode_numbers_must_fit_the_frames():
    for wrong in (EPISODES[:-1], EPISODES.flip(0)):
        with pytest.raises(FermoError, match="11 frames need an episode number each"):
            make_samples(frames(), Window(past=2), wrong)


# Through the loop


def goal_policy(**settings):
    return make_policy("beso", SPEC, BesoConfig(network=SMALL, context=3, goal=GoalConfig(kind="future"), **settings))


INDEX = torch.arange(512) // 32
CONFIG = BcConfig(steps=8, batch_size=64, lr=3e-3, ema_decay=0.9, warmup_steps=2, checkpoint_every=3, validation=0.25)


def test_a_goal_policy_resumes_to_the_same_weights(tmp_path: Path):
    whole, parts = goal_policy(chunk=2), goal_policy(chunk=2)
    result = train_bc(whole, *demonstrations(), config=CONFIG, episode_index=INDEX)
    trainer = BcTrainer(parts, *demonstrations(), config=CONFIG, episode_index=INDEX)
    for _ in range(5):
        trainer.take_step()
    trainer.save(tmp_path)
    resumed = goal_policy(chunk=2)
    ended = train_bc(resumed, *demonstrations(), config=CONFIG, episode_index=INDEX, folder=tmp_path, resume=True)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert ended.metrics == result.metrics and "validation/loss" in result.metrics


def test_whole_episodes_are_held_out_and_neither_fitted_nor_learned():
    observations, actions = demonstrations()
    trainer = BcTrainer(goal_policy(), observations, actions, config=CONFIG, episode_index=INDEX)
    held = INDEX[trainer.held_out].unique()
    assert len(held) == 4 and not set(INDEX[trainer.learned].tolist()) & set(held.tolist())
    assert len(trainer.held_out) + len(trainer.learned) == 512
    mean = trainer.policy.observation_normalizer.mean
    torch.testing.assert_close(mean, observations[trainer.learned].double().mean(0).float())
    chosen = set()
    for _ in range(8):
        trainer._batch()
        chosen |= set(trainer._order.tolist())
        trainer.step += 1
    assert chosen <= set(trainer.learned.tolist())


@pytest.mark.parametrize("family", ["mlp_bc", "lipschitz_bc", "actor_mlp", "smooth_bc", "beso", "goal_bc"])
def test_every_family_that_is_descended_to_can_be_validated(family: str):
    following = demonstrations(seed=1)[0]
    config = BcConfig(steps=2, batch_size=32, validation=0.2)
    result = train_bc(fitted_policy(family), *demonstrations(), config=config, next_observations=following)
    assert 0 < result.metrics["validation/loss"] < math.inf


def test_validation_measures_the_averaged_weights_and_changes_nothing():
    trainer = BcTrainer(goal_policy(), *demonstrations(), config=CONFIG, episode_index=INDEX)
    before = [parameter.detach().clone() for parameter in trainer.policy.parameters()]
    first = trainer.validate()["validation/loss"]
    assert trainer.average is not None
    for mean in trainer.average:
        mean.add_(0.3)
    assert trainer.validate()["validation/loss"] > first
    assert all(torch.equal(a, b) for a, b in zip(trainer.policy.parameters(), before, strict=True))


def test_holding_out_everything_is_refused():
    with pytest.raises(FermoError, match="1 of 1 episodes would be held out"):
        BcTrainer(goal_policy(), *demonstrations(), config=CONFIG, episode_index=torch.zeros(512, dtype=torch.long))


def test_a_loop_without_validation_has_no_such_metric():
    config = BcConfig(steps=2, batch_size=64)
    assert set(train_bc(goal_policy(), *demonstrations(), config=config, episode_index=INDEX).metrics) == {"loss"}


def test_not_a_number_among_the_demonstrations_is_refused_before_training():
    observations, actions = demonstrations()
    actions[7, 1] = torch.nan
    with pytest.raises(FermoError, match="sample 7 of 'joint_target' is nan"):
        train_bc(goal_policy(), observations, actions, config=BcConfig(steps=1), episode_index=INDEX)


# From a dataset


def write_dataset(folder: Path, **columns: np.ndarray) -> Path:
    generator = np.random.default_rng(0)
    with DatasetWriter(folder, spec=SPEC, robot_type="toy", tasks=("move",)) as writer:
        for _ in range(4):
            observations = generator.normal(size=(20, SPEC.observation_size))
            writer.add_episode(observations, 0.5 * observations[:, :6], success=True, task="move", extras=columns)
    return folder


@pytest.mark.parametrize("kind", ["none", "future", "one_hot", "features"])
def test_every_kind_of_goal_is_trained_from_a_dataset_to_a_checkpoint(kind: str, tmp_path: Path):
    column = {"one_hot": np.arange(20) % 3, "features": np.ones((20, 3))}.get(kind)
    data = write_dataset(tmp_path / "data", **({} if column is None else {"goal": column}))
    goal = GoalConfig(kind=kind, size=0 if column is None else 3)  # type: ignore[arg-type]
    policy = fit(data, tmp_path / "run", task="toy", family="beso", policy=BesoConfig(network=SMALL, goal=goal),
                 loop=BcConfig(steps=3, batch_size=32, ema_decay=0.9))  # fmt: skip
    obs = torch.zeros(2, SPEC.observation_size)
    assert policy.select_action(obs).isfinite().all()
    assert load_checkpoint(tmp_path / "run/checkpoint").window == policy.window


def test_a_column_of_goals_is_checked(tmp_path: Path):
    data = Dataset.open(write_dataset(tmp_path / "data", goal=np.arange(20) % 3, half=np.full(20, 0.5)))
    assert torch.equal(column_goals(data, ColumnGoal(name="goal", size=3, one_hot=True))[:3], torch.eye(3))
    for goal, problem in [
        (ColumnGoal(name="gaol", size=3), "unknown goal column 'gaol': did you mean 'goal'"),
        (ColumnGoal(name="goal", size=2, one_hot=True), "counts from 0 to 2, the policy's goals from 0 to 1"),
        (ColumnGoal(name="half", size=2, one_hot=True), "must hold one whole number a frame"),
        (ColumnGoal(name="goal", size=2), "must hold 2 finite numbers a frame, it has 1"),
    ]:
        with pytest.raises(FermoError, match=problem):
            column_goals(data, goal)


def test_the_goal_chooses_a_mode_of_the_demonstrations_and_without_one_both_are_kept():
    """At the same observation half of the demonstrators go left and half right; their mean is nobody's answer."""
    generator = torch.Generator().manual_seed(0)
    observations = torch.randn(2048, SPEC.observation_size, generator=generator)
    right = torch.randint(2, (2048,), generator=generator)
    actions = 2.0 * right[:, None] - 1 + 0.05 * torch.randn(2048, 6, generator=generator)
    network = TransformerConfig(layers=2, heads=2, width=32, attention_dropout=0.0, residual_dropout=0.0)
    goal = GoalConfig(kind="one_hot", size=2, dropout=0.3)
    policy = make_policy("beso", SPEC, BesoConfig(context=1, network=network, goal=goal,
                                                  diffusion=DiffusionConfig(steps=10)))  # fmt: skip
    train_bc(policy, observations, actions, config=BcConfig(steps=600, batch_size=256, lr=3e-3, ema_decay=0.99),
             goals=torch.eye(2)[right])  # fmt: skip
    assert isinstance(policy, BesoPolicy)
    policy.requires_grad_(False)
    for number, sign in ((0, -1.0), (1, 1.0)):
        policy.set_goal(torch.eye(2)[number])
        chosen = sign * policy.select_action(observations[:400])
        assert float((chosen.mean(1) > 0.8).float().mean()) > 0.95
    policy.set_goal(None)
    policy.reset()
    free = policy.select_action(observations[:400])
    assert float((free.mean(1).abs() > 0.8).float().mean()) > 0.85
    assert float((free[:, 0] > 0).float().mean()) == pytest.approx(0.5, abs=0.15)
