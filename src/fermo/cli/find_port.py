"""``fermo find-port``: which serial port has servos behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fermo.cli.parsing import parse
from fermo.errors import FermoError


@dataclass(frozen=True, kw_only=True)
class FindPortOptions:
    """Ping servos 1 to 6 on every serial port and print who answers.

    Attributes:
        also: Further devices to ask, such as a twin's.
    """

    also: tuple[str, ...] = ()


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(FindPortOptions, "find-port", arguments)
    from fermo.hardware.ports import find_port

    found = find_port(extra=options.also)
    if not found:
        raise FermoError("this machine has no serial port: plug the arm's adapter in, or check that you may use it")
    for port in found:
        servos = f"servos {', '.join(map(str, port.servos))} answer" if port.servos else port.problem or "no answer"
        print(f"{port.name}  {servos}{f'  ({port.description})' if port.description else ''}")
