"""What every robot keeps to; a new one is appended to ROBOTS and inherits all of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from fermo.controllers.arm_filter_config import ArmFilterConfig
from fermo.hardware.clock import Clock
from fermo.hardware.deploy import filtered_so101
from fermo.hardware.drivers.so101 import So101, So101Config
from fermo.hardware.robot import Robot, RobotError, RobotState
from fermo.hardware.servo_loop import ServoedRobot
from fermo.hardware.twins.supervisor import Twin, spawn_twin

Maker = Callable[[Twin], tuple[Robot, Clock]]


def so101(twin: Twin) -> tuple[Robot, Clock]:
    clock = twin.clock()
    config = So101Config(
        port=twin.port, tracker=("127.0.0.1", twin.tracker_port), calibration=twin.calibration, reply_timeout=0.5
    )
    return So101(config, clock), clock


def servoed_so101(twin: Twin) -> tuple[Robot, Clock]:
    robot, clock = so101(twin)
    servoed = ServoedRobot(robot, clock)
    return servoed, servoed


def filtered_servoed_so101(twin: Twin) -> tuple[Robot, Clock]:
    robot, clock = servoed_so101(twin)
    return filtered_so101(robot, ArmFilterConfig()), clock


ROBOTS: tuple[tuple[str, Maker], ...] = (("so101", so101), ("so101", servoed_so101), ("so101", filtered_servoed_so101))


@pytest.fixture(scope="module")
def twins() -> Iterator[dict[str, Twin]]:
    with spawn_twin("so101", lockstep=True) as twin:
        yield {"so101": twin}


@pytest.fixture(params=ROBOTS, ids=lambda item: item[1].__name__)
def made(request: pytest.FixtureRequest, twins: dict[str, Twin]) -> Iterator[tuple[Robot, Clock]]:
    name, maker = request.param
    twins[name].supervisor.fault("clear")
    twins[name].supervisor.reset()
    twins[name].supervisor.step(0.02)
    robot, clock = maker(twins[name])
    yield robot, clock
    robot.disconnect()


def pose(robot: Robot) -> np.ndarray:
    return robot.read().signals["joint_position"]


def step(robot: Robot, clock: Clock, command: np.ndarray, count: int) -> None:
    for _ in range(count):
        robot.write(command)
        clock.sleep_until(clock.now() + 0.01)
        robot.read()


def test_spec_is_readable_while_off_and_nothing_else_is(made: tuple[Robot, Clock]) -> None:
    robot, _ = made
    assert robot.state is RobotState.OFF
    assert robot.spec.command_size > 0
    for call in (robot.arm, robot.read, robot.acknowledge, lambda: robot.write(np.zeros(robot.spec.command_size))):
        with pytest.raises(RobotError):
            call()
    robot.stop()
    robot.disconnect()


def test_life(made: tuple[Robot, Clock]) -> None:
    robot, clock = made
    with robot:
        assert robot.state is RobotState.CONNECTED
        with pytest.raises(RobotError, match="connected"):
            robot.write(pose(robot))
        robot.arm()
        assert robot.state is RobotState.ARMED
        target = pose(robot) + 0.1
        step(robot, clock, target, 60)
        assert np.abs(pose(robot) - target).max() < 0.05
        robot.stop()
        robot.stop()
        assert robot.state is RobotState.HOLD
        with pytest.raises(RobotError, match="hold"):
            robot.write(target)
        robot.arm()
        assert robot.state is RobotState.ARMED
    assert robot.state is RobotState.OFF


def test_readings_fill_every_declared_signal(made: tuple[Robot, Clock]) -> None:
    robot, clock = made
    with robot:
        robot.arm()
        first = robot.read()
        clock.sleep_until(clock.now() + 0.04)
        second = robot.read()
        for signal in robot.spec.observations:
            assert first.signals[signal.name].shape == signal.shape
            assert np.isfinite(first.signals[signal.name]).all()
        assert second.fresh
        assert second.sequence > first.sequence
        assert second.stamp > first.stamp


def test_arming_moves_nothing(made: tuple[Robot, Clock]) -> None:
    robot, clock = made
    with robot:
        before = pose(robot)
        robot.arm()
        clock.sleep_until(clock.now() + 0.5)
        assert np.abs(pose(robot) - before).max() < 0.05


def test_commands_are_clipped_to_the_declared_bounds(made: tuple[Robot, Clock]) -> None:
    robot, clock = made
    (signal,) = robot.spec.commands
    with robot:
        robot.arm()
        applied = robot.write(np.full(signal.size, 50.0))
        assert applied.clipped.all()
        assert applied.reason
        assert (applied.command <= np.array(signal.high) + 1e-9).all()
        start = pose(robot)
        clock.sleep_until(clock.now() + 0.01)
        assert np.abs(pose(robot) - start).max() < 0.1  # no jump, whatever was asked for


def test_a_command_that_is_not_finite_is_not_used_and_three_are_a_fault(made: tuple[Robot, Clock]) -> None:
    robot, _ = made
    with robot:
        robot.arm()
        good = pose(robot) + 0.02
        robot.write(good)
        bad = good.copy()
        bad[2] = math.nan
        for _ in range(2):
            applied = robot.write(bad)
            assert applied.reason == "not finite"
            assert np.isfinite(applied.command).all()
        robot.write(good)  # one good command starts the count again
        for value in (math.nan, math.inf):
            robot.write(np.full(good.shape, value))
        with pytest.raises(RobotError, match="not finite"):
            robot.write(bad)
        assert robot.state is RobotState.FAULT


def test_a_command_of_the_wrong_shape_is_refused(made: tuple[Robot, Clock]) -> None:
    robot, _ = made
    with robot:
        robot.arm()
        with pytest.raises(RobotError, match="shape"):
            robot.write(np.zeros(robot.spec.command_size + 1))


def test_fault_latches_until_acknowledged(made: tuple[Robot, Clock]) -> None:
    robot, clock = made
    with robot:
        robot.arm()
        robot.fault("stop button")
        for call in (robot.arm, robot.read, lambda: robot.write(np.zeros(robot.spec.command_size))):
            with pytest.raises(RobotError):
                call()
        clock.sleep_until(clock.now() + 0.3)
        assert robot.state is RobotState.FAULT
        robot.acknowledge()
        assert robot.state is RobotState.CONNECTED  # and not armed
        robot.arm()
        assert robot.state is RobotState.ARMED


def test_leaving_by_an_exception_still_ends_off(made: tuple[Robot, Clock]) -> None:
    robot, _ = made
    with pytest.raises(KeyboardInterrupt), robot:
        robot.arm()
        raise KeyboardInterrupt
    assert robot.state is RobotState.OFF
