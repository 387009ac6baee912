import math

import numpy as np
import pytest

from fermo.hardware.sts3215 import (
    ACTION,
    BROADCAST,
    PING,
    RADIANS_PER_COUNT,
    READ,
    REG_WRITE,
    REGISTERS,
    STATUS_OVERLOAD,
    STATUS_TEMPERATURE,
    STATUS_VOLTAGE,
    SYNC_READ,
    SYNC_WRITE,
    WRITE,
    Frame,
    FrameParser,
    encode_frame,
    encode_value,
)
from fermo.hardware.twins.bus import Bus
from fermo.hardware.twins.servo import (
    BACKLASH,
    NO_LOAD_SPEED,
    NOMINAL_VOLTAGE,
    PERIOD,
    PROTECTION_PERIOD,
    STALL_TORQUE,
    Servo,
)

HERE = 2048 * RADIANS_PER_COUNT


def write(servo: Servo, name: str, value: int) -> None:
    servo.write(REGISTERS[name].address, encode_value(REGISTERS[name], value))


def read(servo: Servo, name: str) -> int:
    servo.read(0, 128)
    return servo.value(name)


def armed() -> Servo:
    servo = Servo(1)
    servo.place(HERE)
    write(servo, "p_gain", 16)
    write(servo, "torque_enable", 1)
    return servo


def settle(servo: Servo, angle: float, steps: int = 200, velocity: float = 0.0) -> float:
    torque = 0.0
    for _ in range(steps):
        torque = servo.step(angle, velocity)
    return torque


def test_stiffness_is_near_the_simulators() -> None:
    servo = armed()
    write(servo, "goal_position", 2048 + 50)
    stiffness = settle(servo, HERE) / (50 * RADIANS_PER_COUNT)
    assert stiffness == pytest.approx(17.8, rel=0.1)


def test_back_emf_damps_like_the_simulators_joint() -> None:
    servo = armed()
    write(servo, "goal_position", 2048 + 100)
    still = settle(servo, HERE)
    damping = (still - servo.step(HERE, 0.5)) / 0.5
    assert damping == pytest.approx(STALL_TORQUE / NO_LOAD_SPEED, rel=0.05)


def test_position_is_quantised_to_counts() -> None:
    servo = armed()
    servo.step(HERE + 0.4 * RADIANS_PER_COUNT, 0.0)
    assert read(servo, "present_position") == 2048
    servo.step(HERE + 0.6 * RADIANS_PER_COUNT, 0.0)
    assert read(servo, "present_position") == 2049


def test_torque_off_means_no_torque_and_the_dead_zone_gives_none_either() -> None:
    servo = armed()
    write(servo, "goal_position", 2049)
    assert settle(servo, HERE) == 0.0  # one count is inside the dead zone
    write(servo, "goal_position", 2300)
    assert settle(servo, HERE) > 1.0
    write(servo, "torque_enable", 0)
    assert settle(servo, HERE) == 0.0


def test_torque_limit_register_scales_the_stall_torque() -> None:
    servo = armed()
    write(servo, "torque_limit", 400)
    write(servo, "goal_position", 3500)
    assert settle(servo, HERE) == pytest.approx(0.4 * STALL_TORQUE)


def test_reversing_the_torque_first_crosses_the_play() -> None:
    servo = armed()
    write(servo, "goal_position", 2048 + 60)
    settle(servo, HERE)
    write(servo, "goal_position", 2048 - 60)
    idle = 0
    while servo.step(HERE, 0.0) == 0.0:
        idle += 1
    duty = 60 * 16 / 2048
    assert idle == pytest.approx(2 * BACKLASH / (duty * NO_LOAD_SPEED * PERIOD), abs=2)


def test_acceleration_and_speed_registers_shape_the_move() -> None:
    servo = armed()
    write(servo, "acceleration", 50)  # 5000 counts/s^2
    write(servo, "goal_speed", 1000)
    write(servo, "goal_position", 2048 + 1000)
    angle, path = HERE, []
    for _ in range(1600):
        servo.step(angle, 0.0)
        angle = servo._setpoint * RADIANS_PER_COUNT
        path.append(servo._setpoint)
    speed = np.diff(path) / PERIOD
    assert speed.max() == pytest.approx(1000, rel=0.02)
    assert np.abs(np.diff(speed[:150])).max() / PERIOD == pytest.approx(5000, rel=0.05)
    assert path[-1] == 3048
    assert len(path) - path[::-1].index(path[-2]) <= 1600
    assert max(path) <= 3048  # no overshoot


def run_protection(servo: Servo, angle: float, seconds: float, voltage: float = NOMINAL_VOLTAGE) -> None:
    for _ in range(round(seconds / PROTECTION_PERIOD)):
        for _ in range(10):
            servo.step(angle, 0.0)
        servo.protect(voltage)


def test_overload_trips_after_its_time_and_clears_when_torque_is_switched_on() -> None:
    servo = armed()
    write(servo, "goal_position", 3500)
    run_protection(servo, HERE, 1.9)
    assert servo.status == 0
    run_protection(servo, HERE, 0.3)
    assert servo.status & STATUS_OVERLOAD
    assert read(servo, "torque_enable") == 0
    write(servo, "goal_position", 2048)
    write(servo, "torque_enable", 1)
    assert servo.status == 0


def test_heat_and_supply() -> None:
    servo = armed()
    write(servo, "goal_position", 2048 + 120)
    before = servo.temperature
    run_protection(servo, HERE, 1.0)
    # 120 counts at gain 16 drive 94 % of the stall current; what is lost to the air in a second is little.
    heat = (120 * 16 / 2048 * 2.7) ** 2 * 4.4 / 40.0
    assert servo.temperature - before == pytest.approx(heat, rel=0.1)
    servo.temperature = 80.0
    run_protection(servo, HERE, 0.02)
    assert servo.status & STATUS_TEMPERATURE
    run_protection(servo, HERE, 0.02, voltage=4.0)
    assert servo.status & STATUS_VOLTAGE
    run_protection(servo, HERE, 0.02)
    assert not servo.status & STATUS_VOLTAGE


def test_eeprom_survives_power_only_when_written_unlocked() -> None:
    servo = armed()  # wrote p_gain while locked
    write(servo, "lock", 0)
    write(servo, "d_gain", 7)
    write(servo, "acceleration", 9)
    servo.power_cycle()
    assert (read(servo, "p_gain"), read(servo, "d_gain")) == (REGISTERS["p_gain"].default, 7)
    assert (read(servo, "acceleration"), read(servo, "torque_enable"), read(servo, "lock")) == (0, 0, 1)


def test_measured_registers_cannot_be_written() -> None:
    servo = armed()
    servo.write(56, bytes((1, 2)))
    assert read(servo, "present_position") == 2048


def ask(bus: Bus, frame: Frame) -> list[Frame]:
    data = b"".join(reply.data for reply in bus.receive(encode_frame(frame)))
    return FrameParser().feed(data)


def make_bus() -> Bus:
    return Bus([Servo(i) for i in range(1, 7)], timed=False)


def test_ping_read_write() -> None:
    bus = make_bus()
    assert ask(bus, Frame(4, PING)) == [Frame(4, 0)]
    assert ask(bus, Frame(9, PING)) == []  # nobody has that id
    assert ask(bus, Frame(2, WRITE, bytes((41, 5)))) == [Frame(2, 0)]
    assert ask(bus, Frame(2, READ, bytes((41, 1)))) == [Frame(2, 0, b"\x05")]
    assert ask(bus, Frame(BROADCAST, WRITE, bytes((41, 8)))) == []
    assert [servo.value("acceleration") for servo in bus.servos] == [8] * 6


def test_sync_read_and_write() -> None:
    bus = make_bus()
    assert ask(bus, Frame(BROADCAST, SYNC_WRITE, bytes((42, 2, 1, 10, 0, 3, 20, 0)))) == []
    replies = ask(bus, Frame(BROADCAST, SYNC_READ, bytes((42, 2, 1, 9, 3))))
    assert replies == [Frame(1, 0, b"\x0a\x00"), Frame(3, 0, b"\x14\x00")]  # the absent id says nothing


def test_registered_writes_wait_for_action() -> None:
    bus = make_bus()
    assert ask(bus, Frame(5, REG_WRITE, bytes((41, 3)))) == [Frame(5, 0)]
    assert bus.servos[4].value("acceleration") == 0
    assert ask(bus, Frame(BROADCAST, ACTION)) == []
    assert bus.servos[4].value("acceleration") == 3


def test_replies_take_their_time_on_the_wire() -> None:
    bus = Bus([Servo(1)], timed=True)
    (reply,) = bus.receive(encode_frame(Frame(1, READ, bytes((56, 15)))))
    assert reply.delay == pytest.approx((8 + 21) * 10e-6)


def test_faults_on_the_wire() -> None:
    bus = make_bus()
    question = encode_frame(Frame(1, PING))
    bus.faults.drop = 1
    assert bus.receive(question) == []
    bus.faults.delay, bus.faults.delay_seconds = 1, 0.12
    assert bus.receive(question)[0].delay == 0.12
    bus.faults.corrupt = 1
    assert FrameParser().feed(bus.receive(question)[0].data) == []
    bus.faults.hold_back = 1
    assert bus.receive(question) == []
    assert bus.receive(question)[0].data == 2 * encode_frame(Frame(1, 0))
    bus.faults.unplugged = True
    assert bus.receive(question) == []


def test_nothing_is_torn_by_a_wrap_of_the_angle() -> None:
    servo = Servo(1)
    servo.step(math.tau - 0.1 * RADIANS_PER_COUNT, 0.0)
    assert read(servo, "present_position") == 0
