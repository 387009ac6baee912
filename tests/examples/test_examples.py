"""Examples run as they stand."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_batched_rollout(capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(EXAMPLES / "batched_rollout.py"))["main"](num_envs=8)
    assert "lifted" in capsys.readouterr().out
