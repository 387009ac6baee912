"""From a dataset to a checkpoint: whole, interrupted and resumed it is the same file; nothing asked for is ignored."""

from __future__ import annotations

import functools
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fermo.training.fit
from fermo.errors import FermoError
from fermo.policies.behavior_cloning import BehaviorCloningPolicy
from fermo.policies.checkpoint_header import read_header
from fermo.policies.one_step import OneStepPolicy
from fermo.training.data.reader import Dataset
from fermo.training.fit import fit
from fermo.training.loops.bc import train_bc
from fermo.training.loops.bc_config import BcConfig
from fermo.training.recipes import loop_recipe, policy_recipe
from tests.training.conftest import TASK, NearData

FAMILIES = ("mlp_bc", "lipschitz_bc", "smooth_bc")
SCALE = {"steps": 24, "batch_size": 256, "checkpoint_every": 7, "log_every": 5, "warmup_steps": 4}


def fitted(
    data: NearData, folder: Path, family: str = "mlp_bc", hidden: int = 16, **loop: Any
) -> BehaviorCloningPolicy:
    policy = fit(data.folder, folder, task=TASK, family=family, policy=policy_recipe(TASK, family, hidden=(hidden,)),
                 loop=loop_recipe(TASK, family, **(SCALE | loop)))  # fmt: skip
    assert isinstance(policy, BehaviorCloningPolicy)
    return policy


def interrupt_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the middle of the next training."""
    press = lambda done, metrics: signal.raise_signal(signal.SIGINT) if done == step else None  # noqa: E731
    monkeypatch.setattr(fermo.training.fit, "train_bc", functools.partial(train_bc, on_step=press))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_interrupted_fit_ends_in_the_same_checkpoint(
    family: str, near_data: NearData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted(near_data, tmp_path / "whole", family)
    with monkeypatch.context() as patch:
        interrupt_at(10, patch)
        with pytest.raises(KeyboardInterrupt, match="step 10 of 24"):
            fitted(near_data, tmp_path / "halves", family)
    assert not (tmp_path / "halves/checkpoint").exists()
    fitted(near_data, tmp_path / "halves", family)
    for name in ("model.safetensors", "signals.json"):
        whole, halves = ((tmp_path / run / "checkpoint" / name).read_bytes() for run in ("whole", "halves"))
        assert whole == halves, name
    whole, halves = (read_header(tmp_path / run / "checkpoint") | {"written": None} for run in ("whole", "halves"))
    assert whole == halves


def test_a_finished_fit_is_loaded_and_not_repeated(
    near_data: NearData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = fitted(near_data, tmp_path / "run")
    interrupt_at(1, monkeypatch)  # would stop any training
    again = fitted(near_data, tmp_path / "run")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_the_checkpoint_says_which_task_it_is_for(near_data: NearData, tmp_path: Path) -> None:
    policy = fitted(near_data, tmp_path)
    assert policy.spec.mismatches(Dataset.open(near_data.folder).spec) == []
    assert read_header(tmp_path / "checkpoint")["extra"]["task"] == TASK


def test_failed_episodes_are_learned_from_too(near_data: NearData, tmp_path: Path) -> None:
    dataset = Dataset.open(near_data.folder)
    mean = torch.from_numpy(dataset.observations).double().mean(dim=0)
    found = fitted(near_data, tmp_path).observation_normalizer.mean.double()
    torch.testing.assert_close(found, mean, atol=1e-4, rtol=1e-3)
    successes = torch.from_numpy(dataset.filter(success=True).observations).double().mean(dim=0)
    assert not torch.allclose(mean, successes, atol=1e-3)


def test_a_method_of_neighbouring_steps_gets_each_frames_successor_in_its_episode(
    near_data: NearData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def spy(*arguments: Any, **options: Any) -> Any:
        given.update(options)
        return train_bc(*arguments, **options)

    monkeypatch.setattr(fermo.training.fit, "train_bc", spy)
    fit(near_data.folder, tmp_path, task=TASK, family="smooth_bc",
        policy=policy_recipe(TASK, "smooth_bc", hidden=(16,), method="l2c2"),
        loop=loop_recipe(TASK, "smooth_bc", **SCALE))  # fmt: skip
    dataset = Dataset.open(near_data.folder)
    observations, following = dataset.observations, given["next_observations"].numpy()
    ends = np.append(dataset.episode_index[1:] != dataset.episode_index[:-1], True)
    assert ends.sum() == dataset.episodes
    assert (following[ends] == observations[ends]).all()
    assert (following[~ends] == observations[1:][~ends[:-1]]).all()


def test_resuming_with_other_settings_is_refused(
    near_data: NearData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_at(10, patch)
        with pytest.raises(KeyboardInterrupt):
            fitted(near_data, tmp_path)
    with pytest.raises(FermoError, match="other lr"):
        fitted(near_data, tmp_path, lr=1e-4)
    with pytest.raises(FermoError, match="other policy"):
        fitted(near_data, tmp_path, hidden=8)


def test_a_family_that_is_solved_says_how_well(near_data: NearData, tmp_path: Path) -> None:
    family = "lipschitz_extension"
    config = policy_recipe(TASK, family)
    loop = loop_recipe(TASK, family, samples=200)
    policy = fit(near_data.folder, tmp_path, task=TASK, family=family, policy=config, loop=loop)
    assert isinstance(policy, OneStepPolicy)
    metrics = read_header(tmp_path / "checkpoint")["extra"]["metrics"]
    assert metrics["points"] <= 200 and metrics["steepest_values"] <= config.alpha * (1 + 1e-9)
    assert 0 <= metrics["duality_gap"] <= 1e-4
    again = fit(near_data.folder, tmp_path, task=TASK, family=family, policy=config, loop=loop)
    assert torch.equal(next(again.parameters()), next(policy.parameters()))


@pytest.mark.parametrize(("family", "other"), [("lipschitz_extension", "mlp_bc"), ("mlp_bc", "lipschitz_extension")])
def test_a_loop_of_the_other_kind_is_refused(family: str, other: str, near_data: NearData, tmp_path: Path) -> None:
    with pytest.raises(FermoError, match=r"give a (Bc|Solve)Config"):
        fit(near_data.folder, tmp_path, task=TASK, family=family, policy=policy_recipe(TASK, family),
            loop=loop_recipe(TASK, other))  # fmt: skip


def test_a_finished_checkpoint_of_another_policy_is_refused(near_data: NearData, tmp_path: Path) -> None:
    fitted(near_data, tmp_path)
    with pytest.raises(FermoError, match="mlp_bc"):
        fitted(near_data, tmp_path, family="lipschitz_bc")
    with pytest.raises(FermoError, match="hidden"):
        fitted(near_data, tmp_path, hidden=8)


def test_a_family_without_a_recipe_for_a_task_has_its_own() -> None:
    assert loop_recipe("fermo/Hopper-v5", "beso").ema_decay == 0.999
    assert loop_recipe("fermo/Hopper-v5", "beso", steps=3).steps == 3
    assert loop_recipe("fermo/Hopper-v5", "mlp_bc") == BcConfig()
