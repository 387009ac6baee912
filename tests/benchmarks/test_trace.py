"""The bare engine goes through the very states that the environment meets."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from fermo.benchmarks import record as recording
from fermo.benchmarks.cases import fill_in
from fermo.benchmarks.contender import ACTION_BATCHES, Case
from fermo.benchmarks.contenders.ours import FermoEnv, RawBatch
from fermo.benchmarks.record import record
from fermo.benchmarks.trace import Trace
from fermo.envs.registry import make_task


@pytest.mark.parametrize("task", ["fermo/Hopper-v5", "fermo/Ant-v5"])
def test_raw_physics_lives_the_environments_lives_to_the_last_bit(task: str, tmp_path: Path) -> None:
    case, _ = fill_in(Case(task=task, num_envs=5, threads=1), tmp_path)
    raw = RawBatch(case)
    raw.prepare()
    raw.make()
    if "Hopper" in task:
        assert len(raw._life.restart_step) > 0, "no world restarted: the trace shows nothing"
    for _ in range(2):  # the second time from the start again
        for _ in range(recording.LENGTH):
            raw.step()
        assert np.array_equal(raw._state, raw._life.end)


def test_more_worlds_repeat_the_recorded_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "RECORDED_WORLDS", 3)
    case = Case(task="fermo/Hopper-v5", num_envs=7, threads=1)
    life = record(make_task(case.task), case)
    wide = life.over(7)
    assert np.array_equal(wide.start[[0, 1, 2, 3, 6]], life.start[[0, 1, 2, 0, 0]])
    assert np.array_equal(wide.ctrl[:, 5], life.ctrl[:, 2])
    restarted = 0
    for (ids, rows), (wide_ids, wide_rows) in zip(life.restarts(), wide.restarts(), strict=True):
        assert sorted(wide_ids) == [world for world in range(7) if world % 3 in ids]
        for world, row in zip(wide_ids, wide_rows, strict=True):
            assert np.array_equal(row, rows[list(ids).index(world % 3)])
        restarted += len(ids)
    assert restarted == len(life.restart_step) > 0


def test_a_trace_survives_the_disk(tmp_path: Path) -> None:
    life = record(make_task("Hopper"), Case(task="fermo/Hopper-v5", num_envs=2, threads=1))
    life.save(tmp_path / "trace.npz")
    again = Trace.load(tmp_path / "trace.npz")
    assert all(np.array_equal(getattr(again, each.name), getattr(life, each.name)) for each in fields(Trace))


def test_everybody_gets_the_same_uniform_actions_within_bounds() -> None:
    case = Case(task="x", num_envs=1000, threads=1, seed=3)
    low, high = np.array([-1.0, 0.0]), np.array([1.0, 5.0])
    actions = case.actions(low, high)
    assert actions.shape == (ACTION_BATCHES, 1000, 2)
    assert actions.dtype == np.float32
    assert np.array_equal(actions, case.actions(low, high))
    assert np.all((low <= actions) & (actions <= high))
    count = actions[..., 0].size  # mean of n uniform draws over a width w: standard error w / sqrt(12 n)
    assert actions.mean(axis=(0, 1)) == pytest.approx([0.0, 2.5], abs=5 * 5 / np.sqrt(12 * count))


def test_ours_begins_where_episodes_have_spread_out(tmp_path: Path) -> None:
    case, physics = fill_in(Case(task="fermo/Hopper-v5", num_envs=6, threads=1), tmp_path)
    ours = FermoEnv(case)
    ours.prepare()
    assert ours.make() == 6
    assert len(set(ours._env.steps.tolist())) > 1
    ours.step()
    ours.finish()
    assert physics.startswith("4 substeps of 0.002 s, integrator rk4, solver newton")
    assert Path(case.model_file).name == "hopper.xml"
