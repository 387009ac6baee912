"""The bare engine goes through the very states that the environment meets."""

from __future__ import annotations

import numpy as np
import pytest

from fermo.benchmarks import trace
from fermo.benchmarks.contender import ACTION_BATCHES, Case
from fermo.benchmarks.contenders.ours import FermoEnv, RawBatch
from fermo.envs.registry import make_task


@pytest.mark.parametrize("task", ["fermo/Hopper-v5", "fermo/Ant-v5"])
def test_raw_physics_lives_the_environments_lives_to_the_last_bit(task: str) -> None:
    case = Case(task=task, num_envs=5, threads=1)
    raw = RawBatch(case)
    raw.prepare()
    raw.make()
    if "Hopper" in task:
        assert sum(len(worlds) for worlds, _ in raw._life.restarts) > 0, "no world restarted: the trace shows nothing"
    for _ in range(trace.LENGTH):
        raw.step()
    assert np.array_equal(raw._state, raw._life.end)


def test_more_worlds_repeat_the_recorded_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "RECORDED_WORLDS", 3)
    case = Case(task="fermo/Hopper-v5", num_envs=7, threads=1)
    life = trace.record(make_task(case.task), case)
    wide = life.over(7)
    assert np.array_equal(wide.start[[0, 1, 2, 3, 6]], life.start[[0, 1, 2, 0, 0]])
    assert np.array_equal(wide.ctrl[:, 5], life.ctrl[:, 2])
    restarted = 0
    for (ids, rows), (wide_ids, wide_rows) in zip(life.restarts, wide.restarts, strict=True):
        assert wide_ids.tolist() == [world for world in range(7) if world % 3 in ids]
        for world, row in zip(wide_ids, wide_rows, strict=True):
            assert np.array_equal(row, rows[list(ids).index(world % 3)])
        restarted += len(ids)
    assert restarted > 0


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


def test_ours_begins_where_episodes_have_spread_out() -> None:
    ours = FermoEnv(Case(task="fermo/Hopper-v5", num_envs=6, threads=1))
    ours.prepare()
    assert ours.make() == 6
    assert len(set(ours._env.steps.tolist())) > 1
    ours.step()
    ours.finish()
