"""What can go wrong on a twin, by name: each is one call on the supervisor port."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fermo.errors import FermoError, unknown_name
from fermo.hardware.sts3215 import STATUS_OVERLOAD
from fermo.hardware.twins.bus import Bus, WireFaults
from fermo.hardware.twins.servo import NOMINAL_VOLTAGE
from fermo.hardware.twins.so101 import So101World


class FaultPanel:
    """Breaks the bus and the servos of one twin on request.

    Args:
        world: Physics and servos.
        bus: The wire.
        later: ``later(seconds, action)`` runs `action` after that much twin time.
        close_port: Makes the serial device vanish.
    """

    def __init__(
        self, world: So101World, bus: Bus, later: Callable[[float, Callable[[], None]], None],
        close_port: Callable[[], None],
    ) -> None:  # fmt: skip
        self._world, self._bus, self._later, self._close_port = world, bus, later, close_port
        self._kinds: dict[str, Callable[..., None]] = {
            "drop": self._drop, "delay": self._delay, "corrupt": self._corrupt, "loss": self._loss,
            "hold_back": self._hold_back, "unplug": self._unplug, "replug": self._replug,
            "power_cycle": self._power_cycle, "overload": self._overload, "temperature": self._temperature,
            "supply": self._supply, "stuck_encoder": self._stuck_encoder, "clear": self._clear,
        }  # fmt: skip

    def apply(self, kind: str, **arguments: object) -> None:
        """Cause fault `kind`. Raises `FermoError` for an unknown kind or arguments it does not take."""
        if kind not in self._kinds:
            raise unknown_name("fault", kind, self._kinds)
        try:
            self._kinds[kind](**arguments)
        except (TypeError, KeyError, IndexError) as error:
            raise FermoError(f"fault {kind!r}: {error}") from error

    def _drop(self, count: int = 1) -> None:
        self._bus.faults.drop = count

    def _delay(self, seconds: float, count: int = 1) -> None:
        self._bus.faults.delay, self._bus.faults.delay_seconds = count, seconds

    def _hold_back(self, count: int = 1) -> None:
        self._bus.faults.hold_back = count

    def _corrupt(self, count: int = 1) -> None:
        self._bus.faults.corrupt = count

    def _loss(self, probability: float) -> None:
        self._bus.faults.loss = probability

    def _unplug(self, mode: str = "hang") -> None:
        self._bus.faults.unplugged = True
        if mode == "close":
            self._close_port()

    def _replug(self) -> None:
        self._bus.faults.unplugged = False

    def _power_cycle(self, ids: Sequence[int], seconds: float = 0.03) -> None:
        for servo_id in ids:
            self._world.servos[servo_id - 1].power_cycle()
        self._bus.silent.update(ids)
        self._later(seconds, lambda: self._bus.silent.difference_update(ids))

    def _overload(self, ids: Sequence[int]) -> None:
        for servo_id in ids:
            self._world.servos[servo_id - 1].trip(STATUS_OVERLOAD)

    def _temperature(self, ids: Sequence[int], celsius: float) -> None:
        for servo_id in ids:
            self._world.servos[servo_id - 1].temperature = float(celsius)

    def _supply(self, volts: float) -> None:
        self._world.supply = float(volts)

    def _stuck_encoder(self, ids: Sequence[int], on: bool = True) -> None:
        for servo_id in ids:
            self._world.servos[servo_id - 1].stuck = on

    def _clear(self) -> None:
        self._bus.faults = WireFaults()
        self._bus.silent.clear()
        self._world.supply = NOMINAL_VOLTAGE
        for servo in self._world.servos:
            servo.stuck = False
