"""The SO-101: six STS3215 servos on one bus, and an object tracker beside it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal, NoReturn

import numpy as np
import torch

from fermo.assets.scenes.so101 import JOINT_NAMES
from fermo.assets.so101_plant import ARM_PLANT, JOINT_HIGH, JOINT_LOW, JOINT_SPEED
from fermo.controllers.safety_limiter import SafetyLimiter, SafetyLimits
from fermo.hardware.calibration import Calibration, load_calibration
from fermo.hardware.clock import Clock, WallClock
from fermo.hardware.drivers.feetech import ServoBus, Snapshot
from fermo.hardware.drivers.servo_watch import DERATED, ServoWatch
from fermo.hardware.drivers.tracker import TrackerClient
from fermo.hardware.robot import Applied, Reading, Robot, RobotError, RobotState
from fermo.hardware.sts3215 import MODEL_NUMBER

SERVO_IDS = (1, 2, 3, 4, 5, 6)

PARK_POSE = (0.0, -1.70, 1.62, 1.20, 0.0, 0.2)
"""Folded onto itself, where the arm rests without torque [rad]."""

ENCODER_SIGNS = (1, -1, 1, 1, -1, 1)
"""Which way each encoder counts in the standard assembly."""

_SETTINGS = {"p_gain": 16, "d_gain": 32, "i_gain": 0, "acceleration": 0, "goal_speed": 0}
_REJECTIONS = 3  # non-finite commands in a row that latch a fault
_PARK_SPEED = 0.8  # rad/s
_RELEASE_STEPS, _RELEASE_TIME = 20, 1.0  # count, s
_HEALTH = ("status", "present_temperature", "present_voltage", "present_load", "present_current", "moving")


@dataclass(frozen=True, kw_only=True)
class So101Config:
    """How to reach one arm and how careful to be.

    Attributes:
        port: Serial device of the servo bus.
        name: Which arm: names its calibration file.
        tracker: ``(host, port)`` of the object tracker; without one the cube is not observed.
        calibration: Used instead of the file when given.
        servo_rate_hz: How often `So101.write` is called [Hz].
        reply_timeout: Longest wait for a reply [s]; USB adapters hold bytes back for up to 16 ms.
        hold_after: Without data for this long the arm holds [s].
        fault_after: And for this long, FAULT latches [s].
        max_velocity: Of the commands [rad/s].
        torque_limit: Per servo, per mille of stall; the gripper's is low so that a long grasp does not burn it.
        leave: What `disconnect` does with an arm that is under torque: fold it and let go, let go where it is, or
            leave it holding. Letting go always takes a second of falling torque.
    """

    port: str
    name: str = "so101"
    tracker: tuple[str, int] | None = None
    calibration: Calibration | None = None
    servo_rate_hz: float = 100.0
    reply_timeout: float = 0.02
    hold_after: float = 0.02
    fault_after: float = 0.1
    max_velocity: float = JOINT_SPEED
    torque_limit: tuple[int, ...] = (1000, 1000, 1000, 1000, 1000, 600)
    leave: Literal["park", "release", "hold"] = "park"

    def __post_init__(self) -> None:
        if not 0 < self.hold_after < self.fault_after:
            raise ValueError(f"need 0 < hold_after < fault_after, got {self.hold_after} and {self.fault_after}")
        if len(self.torque_limit) != len(SERVO_IDS):
            raise ValueError(f"torque_limit needs {len(SERVO_IDS)} values, got {len(self.torque_limit)}")


class So101(Robot):
    """One arm.

    Attributes:
        counts: How often things happened: ``"stale"`` readings, ``"clipped"`` and ``"rejected"`` commands, ``"hold"``.
    """

    def __init__(self, config: So101Config, clock: Clock | None = None) -> None:
        self.config = config
        self.state = RobotState.OFF
        self.spec = ARM_PLANT if config.tracker else replace(
            ARM_PLANT, observations=tuple(s for s in ARM_PLANT.observations if s.device == "robot")
        )  # fmt: skip
        self.counts: Counter[str] = Counter()
        self._clock = clock or WallClock()
        self._bus = ServoBus(
            config.port, SERVO_IDS, self._clock, reply_timeout=config.reply_timeout, quiet=1 / config.servo_rate_hz
        )
        self._tracker = TrackerClient(*config.tracker, self._clock) if config.tracker else None
        self._reason = ""
        self._starving = False
        self._torque = False
        self._sequence = 0
        self._fresh_at = 0.0
        self._position = np.zeros(len(SERVO_IDS), dtype=np.int64)
        self._speed = np.zeros(len(SERVO_IDS), dtype=np.int64)
        self._goal = np.zeros(len(SERVO_IDS))
        self._limits = np.array(config.torque_limit)
        self._slow: dict[str, np.ndarray] = {}

    # --- life ---------------------------------------------------------------------------------------------------

    def connect(self) -> None:
        """Check calibration, servos and tracker; leaves torque off."""
        if self.state is not RobotState.OFF:
            raise RobotError(f"connect needs a robot that is off, this one is {self.state.value}")
        self._calibration = self.config.calibration or load_calibration(self.config.name)
        low, high = self._calibration.limits()
        self._limiter = SafetyLimiter(SafetyLimits(
            low=tuple(np.maximum(low, JOINT_LOW)), high=tuple(np.minimum(high, JOINT_HIGH)),
            max_velocity=self.config.max_velocity, rate_hz=self.config.servo_rate_hz,
        ))  # fmt: skip
        self._bus.open()
        try:
            self._check_servos()
            self._bus.write_register("torque_enable", 0)
            if self._tracker:
                self._tracker.connect()
            self.state = RobotState.CONNECTED
            self._wait_for_data()
        except RobotError:
            self._close()
            raise

    def _check_servos(self) -> None:
        models = [self._bus.ping(servo_id) for servo_id in SERVO_IDS]
        missing = [f"{i} ({n})" for i, n, m in zip(SERVO_IDS, JOINT_NAMES, models, strict=True) if m is None]
        if missing:
            raise RobotError(
                f"{self.config.port}: no answer from servo {', '.join(missing)}; check power, cables and ids, "
                f"`fermo find-port` shows who answers where"
            )
        for servo_id, model in zip(SERVO_IDS, models, strict=True):
            if model != MODEL_NUMBER:
                raise RobotError(f"servo {servo_id} is model {model}, an STS3215 is {MODEL_NUMBER}")
        for name in ("mode", "homing_offset"):
            for servo_id, value in zip(SERVO_IDS, self._bus.read_register(name), strict=True):
                if value != 0:
                    raise RobotError(f"servo {servo_id} has {name} {value}, expected 0; run `fermo calibrate so101`")
        may_stall = np.array([name == "gripper" for name in JOINT_NAMES])
        self._watch = ServoWatch(SERVO_IDS, JOINT_NAMES, self._bus.read_register("max_temperature"), may_stall)

    def arm(self) -> None:
        """Set the servos up, aim them where they are, switch torque on."""
        if self.state not in (RobotState.CONNECTED, RobotState.HOLD):
            raise RobotError(f"arm needs a connected or holding robot, this one is {self._describe()}")
        self._wait_for_data()
        for name, value in _SETTINGS.items():
            self._bus.write_register(name, value)
        self._limits = np.array(self.config.torque_limit)
        self._bus.write_register("torque_limit", self._limits)
        self._aim_here()
        self._bus.write_register("torque_enable", 1)
        self._torque, self._starving = True, False
        self.state = RobotState.ARMED

    def stop(self) -> None:
        """Hold the present pose until `arm`."""
        if self.state is RobotState.ARMED or (self.state is RobotState.HOLD and self._starving):
            self.state, self._starving = RobotState.HOLD, False
            self._aim_here()

    def fault(self, reason: str) -> None:
        """Hold and latch FAULT."""
        if self.state in (RobotState.OFF, RobotState.FAULT):
            return
        self.state, self._reason = RobotState.FAULT, reason
        if self._torque:
            try:
                self._aim_here()
            except RobotError:
                self.counts["hold not sent"] += 1

    def acknowledge(self) -> None:
        """Leave FAULT for CONNECTED, torque off; raises `RobotError` while the servos still do not answer."""
        if self.state is not RobotState.FAULT:
            raise RobotError(f"nothing to acknowledge: this robot is {self.state.value}")
        self.state = RobotState.CONNECTED
        try:
            self._wait_for_data()
            self._let_go()
        except RobotError as error:
            self.state = RobotState.FAULT
            raise RobotError(f"still in fault ({self._reason}): {error}") from error
        self._reason, self._starving = "", False

    def disconnect(self) -> None:
        """Bring the arm to rest as configured, then close the wire."""
        if self.state is RobotState.OFF:
            return
        try:
            if self._torque and self.config.leave != "hold":
                if self.state is not RobotState.FAULT and self.config.leave == "park":
                    self._park()
                self._let_go()
        except RobotError:
            self.counts["torque left on"] += 1  # the servos cannot be told
        finally:
            self._close()

    def _close(self) -> None:
        self._bus.close()
        if self._tracker:
            self._tracker.close()
        self.state, self._torque = RobotState.OFF, False

    # --- cycle --------------------------------------------------------------------------------------------------

    def read(self) -> Reading:
        """One cyclic read; stale values are returned as such, never as new."""
        if self.state in (RobotState.OFF, RobotState.FAULT):
            raise RobotError(f"cannot read: this robot is {self._describe()}")
        now = self._clock.now()
        snapshot = self._poll()
        if snapshot is None:
            self._starve(now)
        else:
            self._accept(snapshot, now)
        if self._tracker:
            self._tracker.poll()
            if self._tracker.silent_for() > 1.0:
                self._fail(f"the object tracker at {self._tracker.name} is gone")
        return self._reading(fresh=snapshot is not None)

    def write(self, command: np.ndarray) -> Applied:
        """Send joint targets [rad], ``(6,)``, after the safety limiter."""
        if not (self.state is RobotState.ARMED or (self.state is RobotState.HOLD and self._starving)):
            raise RobotError(f"cannot write: this robot is {self._describe()}; call arm() first")
        command = np.asarray(command, dtype=float)
        if command.shape != self._goal.shape:
            raise RobotError(f"the command has shape {command.shape}, this robot takes {self._goal.shape}")
        if self.state is RobotState.HOLD:
            return Applied(command=self._goal.copy(), clipped=command != self._goal, reason="holding: no data")
        measured = torch.from_numpy(self._calibration.to_radians(self._position))[None]
        safe, clipped = self._limiter.limit(torch.from_numpy(command)[None], measured)
        assert self._limiter.rejections is not None
        rejected = int(self._limiter.rejections[0])
        if rejected >= _REJECTIONS:
            self._fail(f"{rejected} commands in a row were not finite")
        self._goal = safe[0].numpy()
        self._send_goal(self._calibration.to_counts(self._goal))
        changed = clipped[0].numpy()
        self.counts["rejected"] += rejected > 0
        self.counts["clipped"] += rejected == 0 and bool(changed.any())
        reason = "not finite" if rejected else "limits" if changed.any() else ""
        return Applied(command=self._goal.copy(), clipped=changed, reason=reason)

    def _poll(self) -> Snapshot | None:
        try:
            return self._bus.poll()
        except RobotError as error:
            self._fail(str(error))

    def _send_goal(self, counts: np.ndarray) -> None:
        try:
            self._bus.sync_write("goal_position", counts)
        except RobotError as error:
            self._fail(str(error))

    def _starve(self, now: float) -> None:
        self.counts["stale"] += 1
        silence = now - self._fresh_at
        if silence >= self.config.fault_after - 1e-9:
            self._fail(
                f"no reply from the servos on {self.config.port} for {1000 * silence:.0f} ms; check cable and power, "
                f"then acknowledge and arm again"
            )
        if silence >= self.config.hold_after - 1e-9 and self.state is RobotState.ARMED:
            self.state, self._starving = RobotState.HOLD, True
            self.counts["hold"] += 1

    def _accept(self, snapshot: Snapshot, now: float) -> None:
        position = snapshot.registers["present_position"]
        self._position, self._speed = position, snapshot.registers["present_speed"]
        self._fresh_at, self._sequence = now, self._sequence + 1
        self._slow.update(snapshot.registers, status=snapshot.status)
        if self._starving:
            self.state, self._starving = RobotState.ARMED, False
        if self._torque:
            self._check_health(snapshot, now)

    def _check_health(self, snapshot: Snapshot, now: float) -> None:
        expected = {"torque_enable": 1, "acceleration": 0, "torque_limit": self._limits}
        error = (self._goal - self._calibration.to_radians(self._position)) * (self.state is RobotState.ARMED)
        if trouble := self._watch.find(snapshot, expected, error, now):
            self._fail(trouble)
        hot = self._watch.hot(snapshot) & (self._limits > DERATED)
        if hot.any():
            self._limits = np.where(hot, DERATED, self._limits)
            self._bus.sync_write("torque_limit", self._limits)

    def _reading(self, *, fresh: bool) -> Reading:
        signals = {
            "joint_position": self._calibration.to_radians(self._position),
            "joint_velocity": self._calibration.to_velocity(self._speed),
        }
        health = {name: self._slow[name] for name in _HEALTH if name in self._slow}
        if self._tracker and self._tracker.newest:
            signals["cube_position"] = self._tracker.newest.position
            signals["cube_heading"] = self._tracker.newest.heading
            health["tracker_age"] = np.array(self._tracker.age())
        return Reading(stamp=self._fresh_at, signals=signals, sequence=self._sequence, fresh=fresh, health=health)

    # --- helpers ------------------------------------------------------------------------------------------------

    def _wait_for_data(self) -> None:
        """A fresh snapshot within a fifth of a second. Raises `RobotError`."""
        deadline = self._clock.now() + 0.2
        while (snapshot := self._bus.poll()) is None:
            if self._clock.now() >= deadline:
                raise RobotError(f"no reply from the servos on {self.config.port}; check cable and power")
            self._clock.sleep_until(self._clock.now() + 1 / self.config.servo_rate_hz)
        self._position, self._speed = snapshot.registers["present_position"], snapshot.registers["present_speed"]
        self._fresh_at, self._sequence = self._clock.now(), self._sequence + 1

    def _aim_here(self) -> None:
        """Goal := measured pose."""
        self._goal = self._calibration.to_radians(self._position)
        self._limiter.reset(pose=torch.from_numpy(self._goal)[None])
        self._watch.reset(self._clock.now())
        self._bus.sync_write("goal_position", self._position)

    def _park(self) -> None:
        """Fold the arm slowly, without looking: goals only, so that it also works with a doubtful bus."""
        start, target = self._goal.copy(), np.array(PARK_POSE)
        steps = int(np.ceil(np.abs(target - start).max() / _PARK_SPEED * self.config.servo_rate_hz))
        for step in range(1, steps + 1):
            goal = start + (target - start) * step / steps
            self._bus.sync_write("goal_position", self._calibration.to_counts(goal))
            self._clock.sleep_until(self._clock.now() + 1 / self.config.servo_rate_hz)

    def _let_go(self) -> None:
        """Let torque fall over a second, then switch it off: a raised arm sinks instead of dropping."""
        if self._torque:
            for fraction in np.linspace(1.0, 0.0, _RELEASE_STEPS):
                self._bus.sync_write("torque_limit", (fraction * self._limits).astype(int))
                self._clock.sleep_until(self._clock.now() + _RELEASE_TIME / _RELEASE_STEPS)
        self._bus.write_register("torque_enable", 0)
        self._torque = False

    def _describe(self) -> str:
        return f"in {self.state.value}" + (f" ({self._reason})" if self._reason else "")

    def _fail(self, reason: str) -> NoReturn:
        self.fault(reason)
        raise RobotError(reason)
