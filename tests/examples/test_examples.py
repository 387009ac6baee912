"""Examples run as they stand."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_batched_rollout(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "batched_rollout.py"))["main"](num_envs=8)
    assert "lifted" in capsys.readouterr().out


def test_depth_camera(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "depth_camera.py"))["main"](tmp_path, num_envs=2, steps=4)
    assert "nearest point 0." in capsys.readouterr().out
    assert {file.name for file in tmp_path.iterdir()} == {"world0-episode0.safetensors", "depth.mp4"}


def test_track_limit(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "track_limit.py"))["main"](num_envs=16, steps=150)
    told = capsys.readouterr().out
    assert 0.0 <= float(told.split("within ")[1].split(" cm")[0]) < 50.0
    assert "changed" in told and "softened" not in told and "not" not in told


def test_object_set(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "object_set.py"))["main"]("cpu")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[0].split(": ")[1] == lines[3].split(": ")[1]
    assert "brick  0.240 kg, lies 19.9 mm" in lines[0]  # density times volume; half its height, less what it sinks in
