"""The measure of single against double precision, and its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fermo.cli import main
from fermo.envs.core.backend import BackendError
from fermo.envs.core.divergence import Divergence, measure
from fermo.envs.registry import TASKS, make_task
from fermo.envs.tasks.so101_pick_cube import PickCube


def test_growth_is_told_apart_by_contact() -> None:
    """Two worlds whose differences double in free flight; the second hits something at step 3 and grows tenfold."""
    drift = 1e-5 * np.array([[1, 2, 4, 8, 16, 32], [1, 2, 4, 40, 400, 4000]]).T
    found = Divergence(drift, drift, np.array([6, 3]))
    assert found.growth() == {"free": pytest.approx(2.0), "contact": pytest.approx(10.0)}
    assert Divergence(drift[:, :1], drift, np.array([6])).growth()["contact"] is None
    still = Divergence(np.zeros((6, 2)), drift, np.array([6, 3]))  # equal to the bit: no ratio
    assert still.growth() == {"free": None, "contact": None}


def test_the_pick_scene_stays_within_single_precision_between_hits() -> None:
    """The arm moves freely and the cube rests on the floor: after one step from MuJoCo's own state, 8 substeps of
    coordinates of order 1 are some 8 x 1e-7 apart. A contact found by one engine only would show as 1e-3."""
    found = measure(PickCube(), worlds=3, steps=10, seed=0)
    assert found.drift.shape == found.one_step.shape == (10, 3)
    assert np.median(found.one_step) < 1e-6 and found.one_step.max() < 1e-4
    assert (found.contact <= 1).all()
    again = measure(PickCube(), worlds=3, steps=2, seed=0)
    np.testing.assert_array_equal(again.drift, found.drift[:2])


LONG = pytest.mark.timeout(3600)  # a kitchen's physics takes Warp's CPU device a second a control step and world


@pytest.mark.slow
@pytest.mark.parametrize("name", [pytest.param(name, marks=[LONG] if "Kitchen" in name else []) for name in TASKS])
def test_every_task_agrees_over_100_steps(name: str) -> None:
    """One control step from MuJoCo's own state: single precision in the median; at worst a touch that begins a substep
    earlier in one of them, a few milliseconds at less than a metre per second."""
    try:
        found = measure(make_task(name), worlds=4, steps=100, device="cpu")
    except BackendError as refused:
        pytest.skip(str(refused))
    assert np.median(found.one_step) < 1e-6 and found.one_step.max() < 2e-3


def test_the_command_prints_a_table_and_writes_the_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "divergence.json"
    main(["divergence", "SO101-PickCube", "--worlds", "2", "--steps", "3", "--device", "cpu", "--json", str(path)])
    told, numbers = capsys.readouterr().out, json.loads(path.read_text())
    assert "SO101-PickCube-v0, 2 worlds" in told and "2 of 2" in told
    assert len(numbers["drift"]["median"]) == len(numbers["one_step"]["max"]) == 3
    assert numbers["first_contact_step"] == [0, 0] or max(numbers["first_contact_step"]) <= 1
    assert numbers["task"] == "fermo/SO101-PickCube-v0" and numbers["provenance"]["versions"]["mujoco"]


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for line, told in (("Hoppr", "did you mean 'Hopper-v5'"), ("Hopper --steps 1", "steps at 2"),
                       ("Hopper --device cuda:9", "no device 'cuda:9'")):  # fmt: skip
        with pytest.raises(SystemExit):
            main(["divergence", *line.split()])
        assert told in capsys.readouterr().err
