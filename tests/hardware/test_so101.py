"""The SO-101 driver against its twin, through the vendor's SDK, in simulated time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scservo_sdk import COMM_SUCCESS, GroupSyncRead, sms_sts

from fermo.assets.so101_plant import ARM_PLANT, PICK_PLANT
from fermo.errors import FermoError
from fermo.hardware.calibration import calibration_path, load_calibration, save_calibration
from fermo.hardware.drivers.feetech import ServoPort
from fermo.hardware.drivers.so101 import So101
from fermo.hardware.drivers.so101_calibration import calibrate_so101
from fermo.hardware.loop import run_policy
from fermo.hardware.ports import find_port
from fermo.hardware.registry import make_robot
from fermo.hardware.robot import RobotError, RobotState
from fermo.hardware.servo_loop import ServoedRobot
from fermo.hardware.sts3215 import RADIANS_PER_COUNT
from fermo.hardware.twins.supervisor import Twin, spawn_twin
from tests.hardware.twin_harness import TICK, Wave, config_of, robot_on


@pytest.fixture(scope="module")
def twin() -> Iterator[Twin]:
    with spawn_twin("so101", lockstep=True) as running:
        yield running


def swing(robot: So101, clock, start: np.ndarray, index: int):
    """One servo tick of a smooth motion: write, read, let time pass; returns the reading."""
    robot.write(start + 0.3 * np.sin(0.06 * index))
    reading = robot.read()
    clock.sleep_until(clock.now() + TICK)
    return reading


def one_line(error: pytest.ExceptionInfo[RobotError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    return text


# --- readings ---------------------------------------------------------------------------------------------------------


def test_fresh_readings_are_the_truth_to_a_count(twin: Twin) -> None:
    with robot_on(twin) as (robot, clock):
        robot.arm()
        start = robot.read().signals["joint_position"]
        for index in range(40):
            robot.write(start + 0.3 * np.sin(0.06 * index))
            reading = robot.read()
            error = reading.signals["joint_position"] - twin.supervisor.truth()["arm"]
            # An encoder is sampled once a millisecond, at up to 2 rad/s.
            assert np.abs(error).max() < RADIANS_PER_COUNT + 0.003
            clock.sleep_until(clock.now() + TICK)


def test_the_sdk_alone_falls_for_a_reply_that_comes_late(twin: Twin) -> None:
    """The trap is real: the same read, repeated, takes the previous answer for the present one."""
    twin.supervisor.fault("clear")
    twin.supervisor.reset()
    port = ServoPort(twin.port, 0.1)
    port.openPort()
    group = GroupSyncRead(sms_sts(port), 56, 4)
    for servo_id in range(1, 7):
        group.addParam(servo_id)
    try:
        twin.supervisor.fault("hold_back", count=1)
        assert group.txRxPacket() != COMM_SUCCESS
        twin.supervisor.reset(arm=np.full(6, 0.2))
        assert group.txRxPacket() == COMM_SUCCESS
        assert group.last_result
        taken = group.getData(1, 56, 2)
        truth = twin.supervisor.registers("present_position")["present_position"][0]
        assert taken != truth
    finally:
        port.closePort()


@pytest.mark.parametrize(
    ("kind", "extra"), [("hold_back", {}), ("delay", {"seconds": 0.02}), ("delay", {"seconds": 0.12})]
)
def test_a_late_reply_is_never_taken_for_a_new_one(twin: Twin, kind: str, extra: dict) -> None:
    with robot_on(twin) as (robot, clock):
        robot.arm()
        start = robot.read().signals["joint_position"]
        fresh = stale = 0
        for index in range(120):
            if index % 20 == 7:
                twin.supervisor.fault(kind, count=1, **extra)
            robot.write(start + 0.3 * np.sin(0.06 * index))
            reading = robot.read()
            if reading.fresh:
                fresh += 1
                assert np.abs(reading.signals["joint_position"] - twin.supervisor.truth()["arm"]).max() < 0.005
            else:
                stale += 1
            clock.sleep_until(clock.now() + TICK)
        assert stale >= 6
        assert fresh >= 90
        assert robot.state is RobotState.ARMED


@pytest.mark.parametrize("kind", ["drop", "corrupt"])
def test_one_lost_reply_costs_no_more_than_a_hold(twin: Twin, kind: str) -> None:
    with robot_on(twin) as (robot, clock):
        robot.arm()
        start = robot.read().signals["joint_position"]
        before = swing(robot, clock, start, 0)
        twin.supervisor.fault(kind, count=1)
        lost = swing(robot, clock, start, 1)
        assert not lost.fresh
        assert lost.sequence == before.sequence
        assert lost.stamp == before.stamp
        for index in range(2, 6):
            swing(robot, clock, start, index)
        assert robot.read().fresh
        assert robot.state is RobotState.ARMED


def test_noise_on_the_wire_is_survived(twin: Twin) -> None:
    with robot_on(twin) as (robot, clock):
        robot.arm()
        start = robot.read().signals["joint_position"]
        twin.supervisor.fault("loss", probability=0.02)
        readings = [swing(robot, clock, start, index) for index in range(200)]
        assert robot.state is RobotState.ARMED
        assert sum(reading.fresh for reading in readings) > 150


# --- faults -----------------------------------------------------------------------------------------------------------


def test_unplugged_holds_after_two_periods_and_faults_within_a_tenth_of_a_second(twin: Twin) -> None:
    with robot_on(twin) as (robot, clock):
        robot.arm()
        start = robot.read().signals["joint_position"]
        swing(robot, clock, start, 0)
        unplugged = clock.now()
        twin.supervisor.fault("unplug", mode="hang")
        states = {}
        with pytest.raises(RobotError) as error:
            while clock.now() < unplugged + 1.0:
                swing(robot, clock, start, 1)
                states.setdefault(robot.state, clock.now() - unplugged)
        assert states[RobotState.HOLD] <= 0.03 + 1e-9
        assert robot.state is RobotState.FAULT
        assert clock.now() - unplugged <= 0.1 + 1e-9
        assert twin.port in one_line(error)
        with pytest.raises(RobotError, match="still in fault"):
            robot.acknowledge()
        twin.supervisor.fault("replug")
        clock.sleep_until(clock.now() + 1.0)
        assert robot.state is RobotState.FAULT  # nothing re-arms by itself
        robot.acknowledge()
        assert robot.state is RobotState.CONNECTED


def test_a_vanished_serial_device_is_one_line() -> None:
    with spawn_twin("so101", lockstep=True) as twin, robot_on(twin) as (robot, clock):
        robot.arm()
        twin.supervisor.fault("unplug", mode="close")
        with pytest.raises(RobotError) as error:
            for _ in range(12):
                robot.read()
                clock.sleep_until(clock.now() + TICK)
        assert twin.port in one_line(error)
        assert robot.state is RobotState.FAULT


@pytest.mark.parametrize(
    ("kind", "arguments", "says"),
    [
        ("power_cycle", {"ids": [3], "seconds": 0.03}, "servo 3 lost its settings"),
        ("overload", {"ids": [2]}, "servo 2: overload"),
        ("temperature", {"ids": [5], "celsius": 69.0}, "servo 5 is too hot"),
        ("supply", {"volts": 4.0}, "voltage"),
    ],
)
def test_what_a_servo_reports_is_a_fault_that_names_it(twin: Twin, kind: str, arguments: dict, says: str) -> None:
    with robot_on(twin) as (robot, clock):
        robot.arm()
        start = robot.read().signals["joint_position"]
        for index in range(5):
            swing(robot, clock, start, index)
        twin.supervisor.fault(kind, **arguments)
        with pytest.raises(RobotError) as error:
            for index in range(5, 40):
                swing(robot, clock, start, index)
        assert says in one_line(error)
        assert robot.state is RobotState.FAULT
        with pytest.raises(RobotError, match="fault"):
            robot.arm()
    twin.supervisor.fault("temperature", ids=[5], celsius=30.0)


def test_a_warm_servo_is_derated_first(twin: Twin) -> None:
    with robot_on(twin) as (robot, clock):
        robot.arm()
        start = robot.read().signals["joint_position"]
        twin.supervisor.fault("temperature", ids=[4], celsius=63.0)
        for index in range(40):
            swing(robot, clock, start, index)
        assert twin.supervisor.registers("torque_limit")["torque_limit"] == [1000, 1000, 1000, 600, 1000, 600]
        assert robot.state is RobotState.ARMED
    twin.supervisor.fault("temperature", ids=[4], celsius=30.0)


def test_a_stuck_encoder_is_found_while_its_joint_should_move(twin: Twin) -> None:
    with robot_on(twin) as (robot, clock):
        robot.arm()
        start = robot.read().signals["joint_position"]
        twin.supervisor.fault("stuck_encoder", ids=[1])
        with pytest.raises(RobotError, match=r"servo 1 \(shoulder_pan\).*stuck"):
            for _ in range(150):
                robot.write(start + np.array([0.6, 0, 0, 0, 0, 0]))
                robot.read()
                clock.sleep_until(clock.now() + TICK)


def test_disconnect_lets_a_raised_arm_sink_instead_of_drop(twin: Twin) -> None:
    with robot_on(twin, leave="release") as (robot, clock):
        twin.supervisor.reset(arm=(0.0, 0.0, 0.0, 0.0, 0.0, 0.5))  # stretched out
        robot.arm()
        clock.sleep_until(clock.now() + 0.3)
        twin.supervisor.record(100.0)
    _, qpos = twin.supervisor.recorded()
    twin.supervisor.record(0.0)
    assert np.abs(np.diff(qpos[:20, 1:4], axis=0)).max() * 100 < 0.3  # rad/s, at first
    assert twin.supervisor.registers("torque_enable")["torque_enable"] == [0] * 6


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_an_uncalibrated_arm_is_refused_before_its_port_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERMO_CONFIG", str(tmp_path))
    robot = make_robot("so101", port="/dev/nowhere", name="left")
    with pytest.raises(FermoError, match="fermo calibrate so101"):
        robot.connect()
    assert robot.state is RobotState.OFF


def test_a_port_that_does_not_exist_is_one_line(twin: Twin) -> None:
    robot = So101(replace(config_of(twin), port="/dev/nowhere"))
    with pytest.raises(RobotError) as error:
        robot.connect()
    assert "/dev/nowhere" in one_line(error)


def test_absent_servos_are_named(twin: Twin) -> None:
    twin.supervisor.fault("power_cycle", ids=[2, 6], seconds=1e6)
    robot = So101(config_of(twin), twin.clock())
    with pytest.raises(RobotError, match=r"no answer from servo 2 \(shoulder_lift\), 6 \(gripper\)"):
        robot.connect()
    assert robot.state is RobotState.OFF
    twin.supervisor.fault("clear")


def test_a_policy_for_other_signals_is_refused_before_arming(twin: Twin) -> None:
    wrong = replace(PICK_PLANT, commands=(replace(PICK_PLANT.commands[0], unit="deg"),))
    with robot_on(twin) as (robot, clock):
        with pytest.raises(FermoError, match=r"joint_target.*deg"):
            run_policy(robot, Wave(wrong), clock=clock, steps=3)
        assert robot.state is RobotState.CONNECTED
    with robot_on(twin, tracker=None) as (robot, clock), pytest.raises(FermoError, match="cube_position"):
        run_policy(robot, Wave(), clock=clock, steps=3)


def test_an_unknown_robot_gets_a_suggestion() -> None:
    with pytest.raises(FermoError, match="did you mean 'so101'"):
        make_robot("so100", port="x")


# --- loop -------------------------------------------------------------------------------------------------------------


def run_wave(twin: Twin) -> tuple[np.ndarray, dict]:
    actions = []
    with robot_on(twin) as (robot, clock):
        servoed = ServoedRobot(robot, clock)
        report = run_policy(
            servoed, Wave(ARM_PLANT), clock=servoed, steps=50, on_tick=lambda tick: actions.append(tick.action)
        )
    return np.array(actions), report.summary()


def test_in_lockstep_the_loop_keeps_exact_time_and_loses_nothing(twin: Twin) -> None:
    actions, summary = run_wave(twin)
    assert len(actions) == 50
    assert summary["period_ms"]["median"] == pytest.approx(40.0)
    assert summary["lateness_ms"]["max"] == pytest.approx(0.0, abs=1e-6)
    assert (summary["misses"], summary["stale_reads"], summary["rejected"]) == (0, 0, 0)
    assert summary["servo"]["ticks"] == 200
    assert json.loads(json.dumps(summary)) == summary


def test_a_dry_run_commands_nothing(twin: Twin) -> None:
    ticks = []
    with robot_on(twin) as (robot, clock):
        before = twin.supervisor.registers("goal_position", "torque_enable")
        run_policy(robot, Wave(), clock=clock, steps=5, dry_run=True, on_tick=ticks.append)
        assert twin.supervisor.registers("goal_position", "torque_enable") == before
        assert robot.state is RobotState.CONNECTED
    assert [tick.applied for tick in ticks] == [None] * 5


def test_a_silent_policy_leaves_the_arm_holding(twin: Twin) -> None:
    with robot_on(twin) as (robot, clock):
        servoed = ServoedRobot(robot, clock)
        servoed.arm()
        target = servoed.read().signals["joint_position"] + 0.1
        servoed.write(target)
        servoed.sleep_until(clock.now() + 1.0)
        assert servoed.counts["silent policy"] > 50
        assert np.abs(servoed.read().signals["joint_position"] - target).max() < 0.05
        assert np.abs(servoed.read().signals["joint_velocity"]).max() < 0.05


# --- ports and calibration --------------------------------------------------------------------------------------------


def test_find_port_sees_the_twin(twin: Twin) -> None:
    found = {port.name: port for port in find_port(extra=[twin.port])}
    assert found[twin.port].servos == dict.fromkeys(range(1, 7), 777)


def test_calibration_finds_how_the_twin_is_mounted(
    twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FERMO_CONFIG", str(tmp_path))
    low, high = twin.calibration.limits()
    poses = iter(np.linspace(0, 1, 9))

    def move() -> bool:
        fraction = next(poses, None)
        if fraction is None:
            return False
        twin.supervisor.reset(arm=low + fraction * (high - low))
        twin.supervisor.step(0.002)
        return True

    def at_zero() -> None:
        twin.supervisor.reset(arm=np.zeros(6))
        twin.supervisor.step(0.002)

    calibrate_so101(twin.port, "twin", at_zero, move)
    found = load_calibration("twin")
    for ours, theirs in zip(found.joints, twin.calibration.joints, strict=True):
        assert (ours.name, ours.sign) == (theirs.name, theirs.sign)
        assert abs(ours.zero - theirs.zero) <= 2
        assert abs(ours.low - theirs.low) <= 12
        assert abs(ours.high - theirs.high) <= 12


def test_an_edited_calibration_is_refused(twin: Twin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERMO_CONFIG", str(tmp_path))
    path = save_calibration(twin.calibration)
    assert path == calibration_path(twin.calibration.name)
    assert load_calibration(twin.calibration.name) == twin.calibration
    path.write_text(path.read_text().replace(str(twin.calibration.joints[0].zero), "2000"))
    with pytest.raises(FermoError, match="edited"):
        load_calibration(twin.calibration.name)
    path.write_text(path.read_text()[:50])
    with pytest.raises(FermoError, match="not JSON"):
        load_calibration(twin.calibration.name)


# --- processes --------------------------------------------------------------------------------------------------------


def wait_until_gone(pid: int, seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


PARENT = """
import sys, time
from fermo.hardware.twins.supervisor import spawn_twin
with spawn_twin("so101", lockstep=True) as twin:
    print(twin.pid, flush=True)
    time.sleep(60)
"""


def test_a_killed_parent_leaves_no_twin_behind() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    assert wait_until_gone(pid)
