"""A task's demonstrations on disk: two kinds, failures among them, repeatable, every label the expert's own answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fermo.errors import FermoError
from fermo.training.data.check import check_format
from fermo.training.data.reader import Dataset
from fermo.training.demos.dataset import DEMONSTRATORS, record_dataset
from fermo.training.demos.experts import INSTRUCTIONS
from tests.training.conftest import TASK, NearData


def recorded(folder: Path, *, episodes: int = 2, recoveries: int = 2, seed: int = 0) -> Dataset:
    record_dataset(TASK, folder, episodes=episodes, recoveries=recoveries, seed=seed, episode_s=0.4)
    return Dataset.open(folder)


def test_every_task_with_an_expert_can_be_recorded() -> None:
    assert set(DEMONSTRATORS) == set(INSTRUCTIONS)


def test_what_is_recorded_is_a_well_formed_dataset(near_data: NearData) -> None:
    check_format(near_data.folder)


def test_failures_are_kept_and_labelled(near_data: NearData) -> None:
    counts, dataset = near_data.counts, Dataset.open(near_data.folder)
    assert dataset.episodes == counts["demonstrations"] + counts["recoveries"] == 48
    clean, disturbed = dataset.success[:12], dataset.success[12:]
    assert clean.sum() == counts["successful demonstrations"] == 12
    assert 0 < disturbed.sum() == counts["successful recoveries"] < 36
    assert dataset.filter(success=False).episodes == 36 - disturbed.sum()


def test_every_action_is_the_experts_own_answer_to_its_observation(near_data: NearData) -> None:
    dataset = Dataset.open(near_data.folder)
    expert = DEMONSTRATORS[TASK].make()[1]
    assert callable(expert)
    some = np.linspace(0, len(dataset) - 1, 500).astype(int)
    answers = expert(torch.from_numpy(dataset.observations[some]))
    np.testing.assert_allclose(dataset.actions[some], answers.numpy(), atol=1e-4)


def test_recoveries_start_more_widely_and_are_led_astray(near_data: NearData) -> None:
    dataset = Dataset.open(near_data.folder)
    steps = len(dataset) // dataset.episodes
    joints = dataset.observations[:, :6].reshape(dataset.episodes, steps, 6)
    start = joints[:, 0].std(axis=0)
    np.testing.assert_array_less(1.5 * joints[:12, 0].std(axis=0).mean(), joints[12:, 0].std(axis=0).mean())
    assert (start > 0).all()
    jerk = np.abs(np.diff(joints, n=2, axis=1)).mean(axis=(1, 2))
    assert np.median(jerk[12:]) > 2 * np.median(jerk[:12])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_starts(tmp_path: Path) -> None:
    first, again = recorded(tmp_path / "first"), recorded(tmp_path / "again")
    assert np.array_equal(first.observations, again.observations) and np.array_equal(first.actions, again.actions)
    other = recorded(tmp_path / "other", seed=10)
    assert not np.isclose(first.observations[0], other.observations[0]).all()


def test_an_episode_does_not_depend_on_how_many_there_are(tmp_path: Path) -> None:
    few, many = recorded(tmp_path / "few", recoveries=0), recorded(tmp_path / "many", episodes=5, recoveries=0)
    # The expert's arithmetic rounds differently in batches of different sizes.
    np.testing.assert_allclose(few.observations, many.observations[: len(few)], atol=1e-6)


def test_the_two_kinds_share_no_start(tmp_path: Path) -> None:
    dataset = recorded(tmp_path / "d")
    cubes = dataset.observations[:: len(dataset) // dataset.episodes, 6:8]
    assert len(np.unique(cubes.round(4), axis=0)) == dataset.episodes


def test_an_existing_folder_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "precious").write_text("1")
    with pytest.raises(FermoError, match="exist"):
        recorded(tmp_path / "d")
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["precious"]
