"""Which serial ports there are, and which have servos behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from serial.tools import list_ports

from fermo.hardware.clock import WallClock
from fermo.hardware.drivers.feetech import ServoBus
from fermo.hardware.robot import RobotError


@dataclass(frozen=True, kw_only=True)
class FoundPort:
    """One serial port.

    Attributes:
        name: Device, for example ``/dev/ttyACM0``.
        description: What the operating system says of it.
        servos: Ids that answered a ping, with their model numbers.
        problem: Why it could not be asked, empty otherwise.
    """

    name: str
    description: str
    servos: dict[int, int]
    problem: str = ""


def find_port(ids: Sequence[int] = range(1, 7), *, extra: Sequence[str] = ()) -> list[FoundPort]:
    """Ping servo `ids` on every serial port of the machine, and on `extra` ones, such as a twin's."""
    known = {port.device: port.description for port in list_ports.comports()}
    return [_ask(name, known.get(name, ""), ids) for name in [*sorted(known), *extra]]


def _ask(name: str, description: str, ids: Sequence[int]) -> FoundPort:
    bus = ServoBus(name, ids, WallClock(), reply_timeout=0.02, quiet=0.0)
    try:
        bus.open()
        models = {servo_id: bus.ping(servo_id) for servo_id in ids}
    except RobotError as error:
        return FoundPort(name=name, description=description, servos={}, problem=str(error))
    finally:
        bus.close()
    return FoundPort(name=name, description=description, servos={i: m for i, m in models.items() if m is not None})
