"""A policy trained by reinforcement demonstrates its task, and a policy of another family is cloned from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("rsl_rl")
from fermo.cli import main
from fermo.envs.registry import make_task
from fermo.policies.checkpoint import load_checkpoint
from fermo.training.bench.evaluate import evaluate
from fermo.training.data.reader import Dataset
from fermo.training.files import read_json


@pytest.mark.slow
def test_a_trained_policy_demonstrates_and_is_cloned(tmp_path: Path) -> None:
    expert, data = tmp_path / "ppo/train/checkpoint", tmp_path / "data"
    main(["train", "Hopper", "ppo", "--num-envs", "8", "--training.iterations", "1", "--folder", str(tmp_path / "ppo")])
    main(["record", "Hopper", "--expert", str(expert), "--episodes", "3", "--recoveries", "2", "--folder", str(data)])
    dataset, policy = Dataset.open(data), load_checkpoint(expert)
    answers = policy.select_action(torch.from_numpy(dataset.observations))
    np.testing.assert_allclose(dataset.actions, answers.numpy(), atol=1e-5)
    clean = evaluate(make_task("Hopper"), policy.select_action, episodes=3, seed=0)
    assert dataset.lengths[:3].tolist() == clean.lengths.tolist() and dataset.lengths.max() < 1000
    main(["train", "Hopper", "mlp_bc", "--data", str(data), "--policy.hidden", "16", "--training.steps", "20",
          "--folder", str(tmp_path / "bc")])  # fmt: skip
    main(["eval", str(tmp_path / "bc/train/checkpoint"), "--episodes", "2", "--json", str(tmp_path / "eval.json")])
    assert read_json(tmp_path / "eval.json")["task"] == "fermo/Hopper-v5"
