"""Robots by name; a driver is imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from fermo.errors import unknown_name
from fermo.hardware.clock import Clock
from fermo.hardware.robot import Robot

ROBOTS: dict[str, tuple[str, str, str]] = {
    "so101": ("fermo.hardware.drivers.so101", "So101", "So101Config"),
}
"""Name to (module, robot class, config class)."""


def make_robot(name: str, /, *, clock: Clock | None = None, **config: Any) -> Robot:
    """Robot `name` with the fields of its config. Raises `FermoError` with the nearest name for an unknown one."""
    if name not in ROBOTS:
        raise unknown_name("robot", name, ROBOTS)
    module_name, robot, config_class = ROBOTS[name]
    module = import_module(module_name)
    return getattr(module, robot)(getattr(module, config_class)(**config), clock)
