"""The servo loop in its own process, on a twin that follows the wall clock; nothing asserts how long things take."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from fermo.assets.so101_plant import ARM_PLANT
from fermo.hardware.clock import WallClock
from fermo.hardware.loop import run_policy
from fermo.hardware.robot import RobotError, RobotState
from fermo.hardware.servo_process import ServoProcess
from fermo.hardware.twins.supervisor import Supervisor, spawn_twin
from tests.hardware.test_so101 import wait_until_gone
from tests.hardware.twin_harness import Wave


def test_a_policy_runs_through_the_process_and_a_pulled_plug_ends_it_in_one_line() -> None:
    with spawn_twin("so101") as twin:
        config = {"port": twin.port, "tracker": ("127.0.0.1", twin.tracker_port), "calibration": twin.calibration}
        with ServoProcess("so101", **config, fault_after=0.5, leave="release") as robot:
            assert robot.state is RobotState.CONNECTED
            report = run_policy(robot, Wave(ARM_PLANT), clock=WallClock(), steps=25)
            assert robot.state is RobotState.HOLD
            assert len(report.start) + report.misses == 25
            assert report.servo["ticks"] > 20
            with pytest.raises(RobotError, match="hold"):
                robot.write(np.zeros(6))
            robot.arm()
            twin.supervisor.fault("unplug", mode="close")
            with pytest.raises(RobotError, match=twin.port):
                run_policy(robot, Wave(ARM_PLANT), clock=WallClock(), steps=100)
            assert robot.state is RobotState.FAULT


PARENT = """
import json, sys, time
from fermo.hardware.calibration import Calibration
from fermo.hardware.servo_process import ServoProcess

if __name__ == "__main__":
    twin = json.loads(sys.argv[1])
    calibration = Calibration.from_json(twin["calibration"])
    robot = ServoProcess("so101", port=twin["port"], calibration=calibration, fault_after=0.5, leave="release")
    robot.connect()
    robot.arm()
    print(robot.pid, flush=True)
    time.sleep(60)
"""


def test_a_killed_policy_brings_the_arm_to_rest(tmp_path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    with spawn_twin("so101") as twin:
        told = json.dumps({"port": twin.port, "calibration": twin.calibration.to_json()})
        with subprocess.Popen([sys.executable, script, told], stdout=subprocess.PIPE, text=True) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            assert _torque(twin.supervisor) == [1] * 6
            os.kill(parent.pid, signal.SIGKILL)
        assert wait_until_gone(pid)
        assert _torque(twin.supervisor) == [0] * 6


def _torque(supervisor: Supervisor) -> list[int]:
    return supervisor.registers("torque_enable")["torque_enable"]
