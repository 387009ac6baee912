"""The GPU machine's script: it says what it misses, and its parts run on Warp's CPU device."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fermo.benchmarks import page, results
from fermo.benchmarks.results import ShortTraining
from fermo.training.files import read_json
from fermo.training.records import from_json

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu/run.sh"


def _run(**settings: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHON": sys.executable, **settings}
    return subprocess.run([SCRIPT], env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU, so the script would start its work")
def test_without_a_gpu_it_says_what_is_missing(tmp_path: Path) -> None:
    done = _run(OUT=str(tmp_path))
    assert done.returncode == 2
    assert "no CUDA device here" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_python_it_says_which_it_wants(tmp_path: Path) -> None:
    done = _run(OUT=str(tmp_path), PYTHON="no-such-python")
    assert done.returncode == 2
    assert "no Python at no-such-python; set PYTHON" in done.stderr


@pytest.mark.slow
def test_every_part_runs_on_the_cpu_device_and_leaves_its_json(tmp_path: Path) -> None:
    done = _run(OUT=str(tmp_path), BUDGET="smoke")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (comparison,) = results.load(tmp_path / "speed.json").comparisons
    assert [len(comparison.row(name).rounds) for name in ("fermo-warp", "raw-warp")] == [1, 1]
    trained = from_json(ShortTraining, read_json(tmp_path / "training.json"), "training")
    assert len(trained.mean_rewards) == 2
    text = page.markdown(tmp_path)
    assert "Where a step of HalfCheetah-v5 goes" in text
    assert "A short training of HalfCheetah-v5" in text
