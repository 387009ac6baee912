"""`fermo eval` and `fermo bench`: counts with intervals, the same each time; mistakes in one line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fermo.cli import main
from fermo.envs.tasks.block_push import GOAL_SIGNALS, BlockPush
from fermo.policies.checkpoint import save_checkpoint
from fermo.policies.goal_bc.policy import GoalBcPolicy
from fermo.policies.goal_bc.presets import baseline
from fermo.policies.windowed.config import TransformerConfig


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Hardly trained; its figures mean nothing."""
    run = tmp_path_factory.mktemp("trained") / "run"
    main(["train", "SO101-PickCube", "mlp_bc", "--policy.hidden", "16", "--num-envs", "4", "--training.steps", "4",
          "--folder", str(run)])  # fmt: skip
    return run / "train/checkpoint"


def evaluated(checkpoint: Path, where: Path, *options: str) -> dict[str, Any]:
    main(["eval", str(checkpoint), "--episodes", "3", "--json", str(where), *options])
    return json.loads(where.read_text())


def test_eval_writes_counts_and_their_interval(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = evaluated(checkpoint, tmp_path / "eval.json")
    assert result["task"] == "fermo/SO101-PickCube-v0" and result["trials"] == 3
    low, high = result["wilson_95"]
    assert 0 <= low <= result["rate"] == result["successes"] / 3 <= high <= 1
    assert low < high  # three episodes never make a rate certain
    assert "95 % Wilson interval" in capsys.readouterr().out
    assert evaluated(checkpoint, tmp_path / "again.json") == result


@pytest.mark.slow  # minutes without OpenGL: every picture shows the arm's full meshes
def test_eval_films_the_first_episode(checkpoint: Path, tmp_path: Path) -> None:
    video = tmp_path / "first.mp4"
    evaluated(checkpoint, tmp_path / "eval.json", "--video", str(video))
    assert video.read_bytes()[4:8] == b"ftyp"


def test_bench_counts_every_severity_of_both(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = tmp_path / "robustness.json"
    both = [str(checkpoint), "--against", str(checkpoint)]
    main(["bench", *both, "--only", "push", "--worlds", "2", "--json", str(where)])
    (curve,) = json.loads(where.read_text())["curves"]
    assert (curve["kind"], curve["unit"]) == ("push", "N")
    assert [series["policy"] for series in curve["series"]] == ["checkpoint", "against"]
    assert all(series["trials"] == [2] * len(curve["severities"]) for series in curve["series"])
    assert curve["series"][0]["successes"] == curve["series"][1]["successes"]  # one checkpoint twice, the same starts
    text = capsys.readouterr().out
    assert "Pushes [N]" in text and str(where) in text


@pytest.mark.parametrize(
    "words, advice",
    [
        ("bench {} --only frction", "did you mean 'friction'?"),
        ("bench {} --worlds 0", "worlds must be at least 1"),
        ("bench {} --against no-such-folder", "there is no checkpoint folder"),
        ("bench no-such-folder", "there is no checkpoint folder"),
        ("eval {} --episodes 0", "episodes must be at least 1"),
        ("eval {} --task Hopper", "does not fit fermo/Hopper-v5"),
        ("eval {} --task SO101-PickCub", "did you mean 'SO101-PickCube-v0'?"),
        ("eval no-such-folder", "there is no checkpoint folder"),
    ],
)
def test_a_mistake_is_one_line(
    words: str, advice: str, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main([word.format(checkpoint) for word in words.split()])
    told = capsys.readouterr().err
    assert end.value.code == 2
    assert told.startswith("fermo: error: ") and told.count("\n") == 1
    assert advice in told
    assert list(tmp_path.iterdir()) == []


def test_eval_by_goals_wants_a_task_and_a_family_that_have_them(checkpoint: Path, tmp_path: Path) -> None:
    dataset = checkpoint.parents[1] / "record/dataset"
    with pytest.raises(SystemExit):
        main(["eval", str(checkpoint), "--goals", str(dataset)])


@pytest.mark.slow
@pytest.mark.parametrize(("task", "frames"), [("BlockPush", "1"), ("FrankaKitchen", "2")])
def test_eval_by_goals_scores_a_policy_that_is_told_what_to_reach(task: str, frames: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["train", task, "beso", "--policy.goal.kind", "future", "--policy.goal.frames", frames,
          "--policy.network.layers", "1", "--policy.network.width", "16", "--num-envs", "8", "--training.steps", "4",
          "--training.validation", "0", "--folder", str(run)])  # fmt: skip
    where = tmp_path / "eval.json"
    result = evaluated(run / "train/checkpoint", where, "--goals", str(run / "record/dataset"))
    assert {"result", "reward", "entropy", "kl"} <= result.keys() and 0 <= result["result"]["value"] <= 1


def test_bench_tells_goals_and_leaves_out_what_needs_a_map(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["record", "BlockPush", "--episodes", "2", "--folder", str(tmp_path / "goals")])
    config = replace(baseline("block_push", "regression", goal_signals=GOAL_SIGNALS),
                     transformer=TransformerConfig(layers=1, heads=1, width=4))  # fmt: skip
    folder, where = tmp_path / "checkpoint", tmp_path / "robustness.json"
    save_checkpoint(GoalBcPolicy(BlockPush().spec, config), folder, extra={"task": "fermo/BlockPush-v0"})
    told = [str(folder), "--goals", str(tmp_path / "goals"), "--worlds", "2", "--json", str(where)]
    capsys.readouterr()
    main(["bench", *told, "--only", "push", "gradient_attack"])
    (curve,) = json.loads(where.read_text())["curves"]
    assert curve["kind"] == "push" and curve["series"][0]["trials"] == [4] * len(curve["severities"])
    assert capsys.readouterr().out.startswith("gradient_attack is left out: ")
    for words, advice in ((["--only", "gradient_attack"], "gradient_attack is left out"),
                          (["--goals", "no-such-folder"], "there is no dataset folder")):  # fmt: skip
        with pytest.raises(SystemExit):
            main(["bench", *told, *words])
        assert advice in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["bench", str(checkpoint), "--goals", str(tmp_path / "goals"), "--json", str(where)])
    assert "mlp_bc at fermo/SO101-PickCube-v0 is not told goals here" in capsys.readouterr().err


def test_compiling_wants_a_policy_that_samples(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["eval"], ["deploy", "--twin"]):
        with pytest.raises(SystemExit):
            main([command[0], str(checkpoint), *command[1:], "--compile"])
        assert "mlp_bc samples nothing that could be compiled" in capsys.readouterr().err


@pytest.mark.slow
def test_eval_of_a_compiled_policy_is_that_of_the_policy(tmp_path: Path) -> None:
    run = tmp_path / "run"
    main(["train", "CartPole", "beso", "--policy.network.layers", "1", "--policy.network.width", "16", "--num-envs",
          "8", "--training.steps", "4", "--training.validation", "0", "--folder", str(run)])  # fmt: skip
    step_by_step = evaluated(run / "train/checkpoint", tmp_path / "eval.json")
    compiled = evaluated(run / "train/checkpoint", tmp_path / "compiled.json", "--compile")
    assert compiled["length"] == pytest.approx(step_by_step["length"], abs=1)
    assert compiled["return"] == pytest.approx(step_by_step["return"], rel=1e-2)
