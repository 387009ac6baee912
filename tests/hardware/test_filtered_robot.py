"""The safety filter on the wire: what a policy asks, what the arm is given, what the report says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from fermo.assets.so101_plant import PICK_PLANT
from fermo.cli import main
from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.hardware.deploy import connect_twin, deploy_on_twin, filtered_so101, run_episodes
from fermo.hardware.filtered_robot import FILTERED
from fermo.hardware.twins.supervisor import Twin, spawn_twin
from fermo.policies.checkpoint import save_checkpoint
from fermo.policies.registry import make_policy
from tests.hardware.test_deploy import Expert
from tests.hardware.twin_harness import Wave

PLANE = 0.05
CAREFUL = ArmFilterConfig(half_spaces=((0.0, 0.0, 1.0, PLANE),))


class Dive(Wave):
    """Reaches for a point below the table as fast as it may, swinging sideways."""

    def predict_action_chunk(self, obs: Tensor) -> Tensor:
        self.step += 1
        goal = torch.tensor([0.3 * math.sin(0.2 * self.step), 0.9, 0.2, 0.8, 0.0, 0.0])
        return goal.expand(len(obs), 1, 6)


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    with spawn_twin("so101", lockstep=True, seed=1) as running:
        yield running


def dive(twin: Twin, safety: ArmFilterConfig | None):
    """Report and heights of the tool over the plane [m], once a tick."""
    heights: list[float] = []
    with connect_twin(twin) as (robot, clock):
        twin.supervisor.fault("clear")
        filtered = filtered_so101(robot, safety) if safety else None
        report = run_episodes(
            Dive(), filtered or robot, clock, episodes=1, seconds=2.0, seed=1, supervisor=twin.supervisor,
            on_tick=lambda tick: heights.append(twin.supervisor.truth()["tool_position"][2] - PLANE),
        )  # fmt: skip
    return report, filtered.report if filtered else None, np.array(heights)


def test_a_policy_that_dives_into_the_table_is_held_above_it(twin: Twin) -> None:
    report, safety, heights = dive(twin, CAREFUL)
    assert safety is not None and not report.episodes[0].fault
    assert heights.min() > -0.001
    assert sum(safety.counts.values()) == 50 and safety.counts["changed"] == len(safety.interventions) > 20
    assert safety.assured is None  # no certificate was given
    rows = {row for each in safety.interventions for row in each.rows}
    assert "tool in (0 0 1).p >= 0.05 m (measured)" in rows
    first = safety.interventions[0]
    assert first.wanted != first.given and first.slack == 0.0
    assert json.loads(json.dumps(safety.to_json()))["interventions"][0]["outcome"] == "changed"
    _, _, heights = dive(twin, None)
    assert heights.min() < -0.02


@pytest.mark.slow
def test_the_expert_still_lifts_the_cube_and_is_hardly_touched() -> None:
    report = deploy_on_twin(Expert(), episodes=1, lockstep=True, seed=1, safety=ArmFilterConfig())
    assert report.successes == 1
    assert report.safety is not None and report.safety.counts["passed"] >= 140
    assert report.to_json()["safety"]["counts"] == dict(report.safety.counts)


def test_a_changed_command_says_why_and_arming_begins_from_the_pose(twin: Twin) -> None:
    with connect_twin(twin) as (robot, clock):
        twin.supervisor.fault("clear")
        twin.supervisor.reset()
        filtered = filtered_so101(robot, CAREFUL)
        reach_down = np.array([0.0, 0.9, 0.0, 0.0, 0.0, 0.0])
        for _ in range(2):
            filtered.arm()
            pose = filtered.read().signals["joint_position"]
            assert filtered.write(pose).reason == ""
            applied = filtered.write(pose + reach_down)
            assert applied.reason == FILTERED
            assert applied.clipped[1] and (np.abs(applied.command - pose) <= 0.18 + 1e-9).all()
            for _ in range(10):
                clock.sleep_until(clock.now() + 0.04)
            filtered.stop()


def test_the_command_line_filters_and_reports_what_the_certificate_assures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_checkpoint(make_policy("mlp_bc", PICK_PLANT), tmp_path / "checkpoint")
    report = tmp_path / "report.json"
    main([
        "deploy", str(folder), "--twin", "--lockstep", "--seconds", "0.4", "--report", str(report), "--filter",
        "--safety.error", "0.0001",
    ])  # fmt: skip
    assert "safety filter: " in capsys.readouterr().out
    safety = json.loads(report.read_text())["safety"]
    assert sum(safety["counts"].values()) == 10
    assert safety["action_error"] > 0 and 0 <= safety["assured"] <= 10
