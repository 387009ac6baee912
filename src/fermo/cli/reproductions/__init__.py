"""The reproductions fermo knows; importing this package registers them, and pulls no simulator in."""

from fermo.cli.reproductions.lipschitz_bounds import LIPSCHITZ_BOUNDS
from fermo.cli.reproductions.so101_demo import SO101_DEMO

__all__ = ["LIPSCHITZ_BOUNDS", "SO101_DEMO"]
