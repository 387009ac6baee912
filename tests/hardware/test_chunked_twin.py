"""A diffusion policy's chunks on the twin's process, in simulated time and in real time."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fermo.assets.scenes.so101 import HOME_QPOS
from fermo.assets.so101_plant import PICK_PLANT
from fermo.cli import main
from fermo.hardware.chunked import acting
from fermo.hardware.chunking import RealTimeChunking
from fermo.hardware.clock import WallClock
from fermo.hardware.deploy import connect_twin, deploy_on_twin, run_episodes
from fermo.hardware.loop import run_policy
from fermo.hardware.robot import RobotState
from fermo.hardware.servo_process import ServoProcess
from fermo.hardware.twins.supervisor import spawn_twin
from fermo.policies.beso.config import BesoConfig, TransformerConfig
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.checkpoint import save_checkpoint

CHUNK, EXECUTE = 16, 6
DELAY, DELAY_ACTIONS = 0.2, 5  # at 25 Hz


def untrained() -> BesoPolicy:
    """Draws goals around the home pose."""
    network = TransformerConfig(layers=1, heads=2, width=16, attention_dropout=0.0, residual_dropout=0.0)
    policy = BesoPolicy(PICK_PLANT, BesoConfig(context=2, chunk=CHUNK, execute=EXECUTE, network=network))
    normal = torch.randn(256, 17, generator=torch.Generator().manual_seed(0))
    policy.fit_normalization(0.3 * normal[:, 6:], torch.tensor(HOME_QPOS) + 0.03 * normal[:, :6])
    return policy.eval()


def test_the_command_line_runs_chunks_under_a_delay_and_reports_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, report = save_checkpoint(untrained(), tmp_path / "checkpoint"), tmp_path / "report.json"
    main([
        "deploy", str(folder), "--twin", "--lockstep", "--seconds", "2", "--report", str(report), "--chunking",
        "real-time", "--execute", str(EXECUTE), "--inference-delay", str(DELAY),
    ])  # fmt: skip
    told = json.loads(report.read_text())
    chunks = told["chunks"]
    assert (chunks["mode"], chunks["horizon"], chunks["execute"]) == ("real-time", CHUNK, EXECUTE)
    assert chunks["delay_actions"]["median"] == chunks["delay_actions"]["max"] == DELAY_ACTIONS
    assert (chunks["chunks"], chunks["holds"], chunks["late"]) == (8, 0, 0)  # asked for after every six actions
    assert chunks["seam_jerk"]["median"] > 0 and chunks["largest_seam_step"] > 0
    assert told["loop"]["ticks"] == 50 and not told["episodes"][0]["fault"]
    printed = capsys.readouterr().out
    assert "chunks: 8 of 16 actions, real-time, the next one asked for after 6" in printed
    assert "[actions] median 5, p99 5, max 5" in printed and "holds 0, late 0, dropped 0" in printed


@pytest.mark.slow  # compilation takes a minute
@pytest.mark.parametrize("chunking", [None, RealTimeChunking(execute=EXECUTE)])
def test_a_compiled_policy_moves_the_twin_as_the_policy_does(tmp_path: Path, chunking: RealTimeChunking | None) -> None:
    folder = save_checkpoint(untrained(), tmp_path / "checkpoint")
    plain, compiled = (deploy_on_twin(folder, episodes=1, lockstep=True, seconds=2, video=1, chunking=chunking,
                                      compiled=compiled) for compiled in (False, True))  # fmt: skip
    assert not compiled.episodes[0].fault
    assert np.ptp(plain.qpos[0], axis=0).max() > 0.02  # it moves
    np.testing.assert_allclose(compiled.qpos[0], plain.qpos[0], atol=1e-3)


class Breaking(BesoPolicy):
    """Fails at its third chunk."""

    chunks = 0

    def predict_action_chunk(self, obs, prefix=None):
        self.chunks += 1
        if self.chunks == 3:
            raise ArithmeticError("the weights are gone")
        return super().predict_action_chunk(obs, prefix)


def test_decided_actions_reach_the_arm_as_they_were_and_a_failure_leaves_it_holding() -> None:
    policy = untrained()
    broken = Breaking(policy.spec, policy.config)
    broken.load_state_dict(policy.state_dict())
    asked: list[np.ndarray] = []
    ticks: list[np.ndarray] = []
    predict = policy.predict_action_chunk

    def noting(obs, prefix=None):
        asked.append(np.zeros((0, 6)) if prefix is None else prefix[0].double().numpy())
        return predict(obs, prefix)

    policy.predict_action_chunk = noting  # type: ignore[method-assign]
    with spawn_twin("so101", lockstep=True, seed=1) as twin, connect_twin(twin) as (robot, clock):
        twin.supervisor.reset()
        with acting(policy, clock, RealTimeChunking(execute=EXECUTE), delay_s=DELAY) as source:
            report = run_episodes(source, robot, clock, episodes=1, seconds=1.2,
                                  on_tick=lambda tick: ticks.append(tick.action))  # fmt: skip
        assert report.chunks is not None and report.chunks.delays == [DELAY_ACTIONS] * 4
        assert [len(prefix) for prefix in asked] == [0, CHUNK - EXECUTE, *[DELAY_ACTIONS] * 3]
        for number, prefix in enumerate(asked[1:], start=1):
            done = np.array(ticks[EXECUTE * number : EXECUTE * number + len(prefix)])
            np.testing.assert_allclose(done, prefix[: len(done)], atol=1e-6)
        with acting(broken, clock, RealTimeChunking(execute=EXECUTE), delay_s=DELAY) as source:
            (episode,) = run_episodes(source, robot, clock, episodes=3, seconds=1.2).episodes
        assert episode.fault == "the policy failed to compute a chunk: the weights are gone"
        assert robot.state is RobotState.HOLD


def test_in_real_time_the_loop_goes_on_while_a_thread_computes() -> None:
    policy, clock = untrained(), WallClock()
    with spawn_twin("so101") as twin:
        config = {"port": twin.port, "tracker": ("127.0.0.1", twin.tracker_port), "calibration": twin.calibration}
        patient = {"reply_timeout": 0.5, "fault_after": 5.0, "leave": "hold"}  # the machine may be busy
        with ServoProcess("so101", **config, **patient) as robot, acting(
            policy, clock, RealTimeChunking(), delay_s=0.1
        ) as source:
            report = run_policy(robot, source, clock=clock, steps=30)
    assert source.report is not None
    (commands,) = source.report.commands
    assert len(commands) == len(report.start) == 30 - report.misses
    assert all(delay >= 1 for delay in source.report.delays)
