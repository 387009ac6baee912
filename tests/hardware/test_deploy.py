from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from fermo.assets.so101_plant import ARM_PLANT, PICK_PLANT
from fermo.envs.tasks.so101_pick_cube import PickCube
from fermo.errors import FermoError
from fermo.hardware.calibration import save_calibration
from fermo.hardware.deploy import EPISODE_S, LIFT_HEIGHT, deploy, deploy_on_twin, start_pose
from fermo.hardware.twins.supervisor import spawn_twin
from fermo.policies.checkpoint import save_checkpoint
from fermo.policies.registry import make_policy
from fermo.training.demos.pick_cube_expert import PickCubeExpert
from tests.hardware.twin_harness import Wave


class Expert(Wave):
    """The scripted expert as a policy."""

    def __init__(self) -> None:
        super().__init__(PICK_PLANT)
        self.expert = PickCubeExpert(PickCube())

    def predict_action_chunk(self, obs: Tensor) -> Tensor:
        return self.expert(obs)[:, None]


def test_what_counts_here_is_what_counts_in_the_task() -> None:
    config = PickCube().config
    assert (config.episode_s, config.lift_height) == (EPISODE_S, LIFT_HEIGHT)
    cubes = np.array([start_pose(3, episode)[0] for episode in range(400)])
    reach, azimuth = np.hypot(cubes[:, 0], cubes[:, 1]), np.arctan2(cubes[:, 1], cubes[:, 0])
    assert config.reach[0] <= reach.min() < 0.15
    assert 0.25 < reach.max() <= config.reach[1]
    assert math.radians(35) < np.abs(azimuth).max() <= config.azimuth
    assert start_pose(3, 7)[0] == start_pose(3, 7)[0] != start_pose(4, 7)[0]


def test_lockstep_episodes_are_scored_recorded_and_repeatable() -> None:
    first, second = (
        deploy_on_twin(Wave(), episodes=2, lockstep=True, seconds=0.6, video=1, seed=5) for _ in range(2)
    )
    assert [episode.success for episode in first.episodes] == [False, False]
    assert first.qpos[0].shape == (10, 13)
    np.testing.assert_array_equal(first.qpos[0], second.qpos[0])
    assert first.loop.summary()["servo"] == second.loop.summary()["servo"]
    assert first.differences
    assert json.loads(json.dumps(first.to_json()))["lockstep"] is True


def test_the_expert_lifts_the_cube_through_the_wire() -> None:
    assert deploy_on_twin(Expert(), episodes=1, lockstep=True, seed=1).successes == 1


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_expert_nearly_always_lifts_the_cube_through_the_wire() -> None:
    report = deploy_on_twin(Expert(), episodes=60, lockstep=True, seed=2)
    assert report.successes >= 57


def test_a_checkpoint_runs_unchanged_on_what_might_be_an_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERMO_CONFIG", str(tmp_path))
    folder = save_checkpoint(make_policy("mlp_bc", PICK_PLANT), tmp_path / "checkpoint")
    with spawn_twin("so101") as twin:
        save_calibration(twin.calibration)
        ticks = []
        report = deploy(
            folder, port=twin.port, tracker=("127.0.0.1", twin.tracker_port), name=twin.calibration.name, seconds=0.4,
            dry_run=True, on_tick=ticks.append,
        )  # fmt: skip
        assert twin.supervisor.registers("torque_enable")["torque_enable"] == [0] * 6
    assert len(ticks) + report.loop.misses == 10
    assert not report.episodes[0].fault
    assert ticks[-1].reading.sequence > ticks[0].reading.sequence
    assert all(np.isfinite(tick.action).all() for tick in ticks)


def test_a_checkpoint_for_other_signals_is_refused_before_anything_is_opened(tmp_path: Path) -> None:
    folder = save_checkpoint(make_policy("mlp_bc", ARM_PLANT), tmp_path / "checkpoint")
    with pytest.raises(FermoError, match="cube_position"):
        deploy(folder, port="/dev/nowhere")
