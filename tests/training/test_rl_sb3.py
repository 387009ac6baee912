"""Stable-Baselines3's learners: the checkpoint acts as the learner does, a resumed training is the same training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

pytest.importorskip("stable_baselines3")
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.policies.checkpoint import load_checkpoint
from fermo.training.learn import learn
from fermo.training.loops.processes import Processes
from fermo.training.loops.rl_config import SacConfig, Sb3PpoConfig, Td3Config
from fermo.training.loops.rl_sb3 import Sb3Config, Sb3Trainer, train_sb3
from fermo.training.run_folder import RunFolder

OFF: dict[str, Any] = {"hidden": (16,), "learning_starts": 40, "buffer_size": 400, "batch_size": 16, "log_every": 2}
CONFIGS: dict[str, Sb3Config] = {
    "sb3_ppo": Sb3PpoConfig(hidden=(16,), rollout_steps=10, batch_size=20, steps=80),
    "td3": Td3Config(**OFF, steps=128),
    "sac": SacConfig(**OFF, steps=128),
}


def batch(name: str = "InvertedPendulum", num_envs: int = 4) -> VectorEnv:
    return VectorEnv(make_task(name), num_envs, autoreset_mode=AutoresetMode.SAME_STEP)


def halved(config: Sb3Config) -> Sb3Config:
    from dataclasses import replace

    return replace(config, steps=config.steps // 2)


@pytest.mark.parametrize("learner", CONFIGS)
def test_a_resumed_training_is_the_same_training(learner: str, tmp_path: Path) -> None:
    config = CONFIGS[learner]
    whole = train_sb3(batch(), config, folder=tmp_path / "whole")
    train_sb3(batch(), halved(config), folder=tmp_path / "halves")
    again = train_sb3(batch(), config, seed=5, folder=tmp_path / "halves", resume=True)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())
    curves = [RunFolder(tmp_path / name).scalars() for name in ("whole", "halves")]
    for tag in set(curves[0]) - {"speed/wall_s"}:
        assert curves[0][tag] == curves[1][tag], tag
    assert len(curves[0]["learner/steps"]) > 1 and "episode/return" in curves[0]


@pytest.mark.parametrize("learner", CONFIGS)
def test_the_checkpoint_acts_as_the_learner_does(learner: str, tmp_path: Path) -> None:
    """On Reach, whose commands are not bounded by one."""
    trainer = Sb3Trainer(batch("SO101-Reach", 4), CONFIGS[learner])
    trainer.model.learn(trainer.steps_a_round * 4)
    obs = trainer.env.reset()
    seen = obs if trainer.normalize is None else trainer.normalize.normalize_obs(obs)
    expected, _ = trainer.model.predict(seen, deterministic=True)
    action = trainer.policy().select_action(torch.from_numpy(obs)).detach().numpy()
    np.testing.assert_allclose(action, expected, atol=2e-5)
    assert np.abs(action).max() > 0.01


def test_it_leaves_a_checkpoint_and_stays_in_one_process(tmp_path: Path) -> None:
    learn(tmp_path / "run", task="InvertedPendulum", learner="td3", config=CONFIGS["td3"], num_envs=4)
    assert load_checkpoint(tmp_path / "run/checkpoint").family == "actor_mlp"
    with pytest.raises(FermoError, match="one process"):
        learn(tmp_path / "two", task="InvertedPendulum", learner="td3", config=CONFIGS["td3"], num_envs=4,
              processes=Processes(rank=1, count=2))  # fmt: skip
    with pytest.raises(FermoError, match="num_envs"):
        train_sb3(batch(num_envs=2), CONFIGS["td3"], folder=tmp_path / "run", resume=True)
