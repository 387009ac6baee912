"""Every learner trains every task from the command line, and leaves a checkpoint that can be scored."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rsl_rl")
pytest.importorskip("stable_baselines3")
from fermo.cli import main
from fermo.training.files import read_json

TASKS = ("SO101-Reach", "Hopper", "HalfCheetah", "Ant")
BRIEF = {
    "ppo": ["--num-envs", "16", "--training.iterations", "2"],
    "sb3_ppo": ["--num-envs", "4", "--training.steps", "2048", "--training.batch-size", "64"],
    "td3": ["--training.steps", "400", "--training.learning-starts", "200"],
    "sac": ["--training.steps", "400", "--training.learning-starts", "200"],
}


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("learner", BRIEF)
def test_a_learner_trains_a_task_from_the_command_line(task: str, learner: str, tmp_path: Path) -> None:
    main(["train", task, learner, "--folder", str(tmp_path / "run"), *BRIEF[learner]])
    checkpoint = tmp_path / "run/train/checkpoint"
    main(["eval", str(checkpoint), "--episodes", "4", "--json", str(tmp_path / "eval.json")])
    score = read_json(tmp_path / "eval.json")
    assert score["trials"] == 4 and score["bootstrap_95"][0] <= score["return"] <= score["bootstrap_95"][1]
