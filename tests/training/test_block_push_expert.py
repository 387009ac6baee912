"""The expert of BlockPush: it succeeds in four ways, keeps its speeds, and what is recorded of it is judged."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fermo.cli import main
from fermo.envs.core.random import WorldRandom
from fermo.envs.tasks.block_push import BlockPush
from fermo.envs.tasks.block_push_metrics import assignment
from fermo.errors import FermoError
from fermo.training.data.reader import Dataset
from fermo.training.demos.block_push_curation import MODE_COLUMN, TARGET_COLUMN, BlockPushCuration
from fermo.training.demos.block_push_expert import BlockPusher, BlockPushExpert, BlockPushExpertConfig, Phase
from fermo.training.demos.record import Episodes, record_episodes

WORLDS, SEED = 28, 5


@pytest.fixture(scope="module")
def made() -> Episodes:
    task = BlockPush()
    return record_episodes(task, BlockPushExpert(task), episodes=WORLDS, seed=SEED, num_threads=1)


@pytest.fixture(scope="module")
def kept(made: Episodes) -> Episodes:
    return BlockPushCuration().keep(BlockPush(), made, 24, SEED)


def test_the_expert_succeeds(made: Episodes) -> None:
    assert made.success.double().mean() >= 0.95
    assert 90 < made.lengths.double().median() < 145


def test_every_mode_is_shown_as_it_was_drawn(kept: Episodes) -> None:
    """The mode read off the blocks' paths is the one that the world's own stream gave."""
    drawn = WorldRandom.first_episodes(SEED, WORLDS).uniform("expert mode", high=4.0).long()
    shown = kept.columns[MODE_COLUMN].flatten()
    assert torch.equal(shown, drawn[:24])  # no attempt failed before
    assert set(shown.tolist()) == {0, 1, 2, 3}


def test_modes_are_drawn_uniformly() -> None:
    modes = WorldRandom.first_episodes(0, 20_000).uniform("expert mode", high=4.0).long()
    assert (torch.bincount(modes, minlength=4) / 20_000 - 0.25).abs().max() < 4 * math.sqrt(3 / 16 / 20_000)


def test_steps_are_no_longer_than_the_speeds_allow(made: Episodes) -> None:
    step = made.actions.norm(dim=2)
    counts = torch.arange(step.shape[1]) < made.lengths[:, None]
    assert 0.0299 < step[counts].max() <= 0.035 + 1e-6


def test_each_phase_goes_where_it_says() -> None:
    """One world a phase; block 1 at (0.4, 0) still lacks a little of the turn it is given, its goal is at y = 0.3."""
    task, config = BlockPush(), BlockPushExpertConfig()
    n, start, away = len(Phase), torch.tensor([0.3, -0.4]), torch.tensor([0.4, -0.03])
    goals = torch.tensor([[0.4, 0.3], [0.5, 0.3]], dtype=torch.float64).repeat(n, 1, 1)
    pusher = BlockPusher(task, goals, torch.zeros(n, dtype=torch.int64), config)
    obs = torch.zeros(n, task.spec.observation_size)
    where = task.spec.observation_slices()
    obs[:, where["block_1_position"]] = torch.tensor([0.4, 0.0])
    obs[:, where["block_1_yaw"]] = 0.1
    obs[Phase.TURN_LEFT, where["block_1_yaw"]] = -0.1
    obs[:, where["block_2_position"]] = torch.tensor([0.5, -0.2])
    obs[:, where["effector_target"]] = start
    pusher(obs)  # the origin is where it began
    pusher.phase = torch.arange(n)
    pusher.gateway[:] = torch.tensor([0.42, -0.3])
    obs[:, where["effector_target"]] = away
    moved = away + pusher(obs)
    # From (0.4, -0.03) on: 3 cm back, 3 cm towards the origin, 2 cm to behind; touching already, so on to the push.
    c, s = math.cos(0.2), math.sin(0.2)
    towards = torch.tensor([0.02, -0.27]) * 0.03 / math.hypot(0.02, 0.27)
    home = (start - away) * 0.03 / float((start - away).norm())
    turns = [torch.tensor([sign * 0.025 * s, -0.025 * c]) - torch.tensor([0.0, -0.03]) for sign in (1, -1)]
    expected = [towards, home, torch.tensor([0.0, -0.02]), torch.tensor([0.0, 0.02]), torch.tensor([0.0, 0.02])]
    torch.testing.assert_close(moved - away, torch.stack([*expected, *turns]).double(), atol=1e-6, rtol=0.0)


def test_the_first_block_goes_first_and_each_to_its_own_target(kept: Episodes) -> None:
    task = BlockPush()
    first, target_of = assignment(kept.columns[MODE_COLUMN].flatten())
    targets = kept.columns[TARGET_COLUMN].reshape(-1, 2, 2)
    where = task.spec.observation_slices()
    rows = torch.arange(len(first))
    last = kept.observations[rows, kept.lengths - 1].double()
    for block in (0, 1):
        end = last[:, where[f"block_{block + 1}_position"]]
        distance = (end - targets[rows, target_of[:, block]]).norm(dim=1)
        assert (distance[first == block] < 0.05).all()
        assert (distance[first != block] < 0.09).all()  # it enters with the last action


def test_an_episode_does_not_depend_on_how_many_there_are(made: Episodes) -> None:
    task = BlockPush()
    few = record_episodes(task, BlockPushExpert(task), episodes=2, seed=SEED, num_threads=1)
    steps = int(few.lengths.min())
    assert torch.equal(few.observations[:, :steps], made.observations[:2, :steps])


def test_too_few_successes_are_an_error(made: Episodes) -> None:
    failing = replace(made, success=made.success & (torch.arange(WORLDS) < 10))
    with pytest.raises(FermoError, match=r"only 10 of 28 attempts .* succeeded, 11 are needed"):
        BlockPushCuration().keep(BlockPush(), failing, 11, SEED)


def mix(counts: tuple[int, ...], length: int) -> Episodes:
    modes = torch.repeat_interleave(torch.arange(4), torch.tensor(counts))
    n = len(modes)
    return Episodes(observations=torch.zeros(n, 1, 10), actions=torch.zeros(n, 1, 2),
                    lengths=torch.full((n,), length), success=torch.ones(n, dtype=torch.bool),
                    columns={MODE_COLUMN: modes[:, None]})  # fmt: skip


def test_the_mix_of_modes_and_the_lengths_are_judged() -> None:
    curation, task = BlockPushCuration(), BlockPush()
    facts = curation.review(task, mix((280, 220, 250, 250), 120))
    assert facts["block 1 to target 1 first"] == 280 and facts["steps in the median"] == 120
    with pytest.raises(FermoError, match=r"block 2 to target 1 first: 29.0% of 1000 .* 1.0 points outside 25 \+- 3 %"):
        curation.review(task, mix((240, 235, 290, 235), 120))
    with pytest.raises(FermoError, match="takes 140 steps, 5 outside 100 to 135"):
        curation.review(task, mix((250,) * 4, 140))
    assert curation.review(task, mix((9, 0, 0, 0), 200))["block 1 to target 1 first"] == 9  # too few to judge


def test_recording_keeps_successes_with_their_modes_and_targets(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = tmp_path / "d"
    main(["record", "BlockPush", "--episodes", "3", "--folder", str(folder)])
    told, dataset = capsys.readouterr().out, Dataset.open(folder)
    assert "3 demonstrations" in told and "block 1 to target 2 first" in told and "recoveries" not in told
    assert dataset.episodes == 3 and dataset.success.all()
    last = np.cumsum(dataset.lengths) - 1
    assert dataset.extras[TARGET_COLUMN][last].shape == (3, 4)
    drawn = WorldRandom.first_episodes(0, 3).uniform("expert mode", high=4.0).long()
    assert dataset.extras[MODE_COLUMN][last].tolist() == drawn.tolist()


def test_recoveries_are_successes_too_and_answered_as_if_nothing_disturbed_them(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    main(["record", "BlockPush", "--episodes", "1", "--recoveries", "3", "--folder", str(folder)])
    dataset = Dataset.open(folder)
    assert dataset.episodes == 4 and dataset.success.all() and MODE_COLUMN in dataset.extras
    slices = dataset.spec.observation_slices()
    target, first = dataset.observations[:, slices["effector_target"]], int(dataset.lengths[0])
    off = np.abs(target[1:] - target[:-1] - dataset.actions[:-1]).max(axis=1)
    assert off[: first - 1].max() < 1e-6  # the target moves by the action
    assert off[first:].max() > 5e-3


@pytest.mark.slow
def test_a_thousand_demonstrations_are_the_benchmarks(tmp_path: Path) -> None:
    """Shares and median are judged by the recorder itself, on the seed that is its default."""
    folder = tmp_path / "d"
    main(["record", "BlockPush", "--episodes", "1000", "--folder", str(folder)])
    assert Dataset.open(folder).episodes == 1000
