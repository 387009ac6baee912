"""The reproductions fermo knows, a module each; importing this package registers them, and pulls no simulator in."""

from fermo.cli.reproductions import half_cheetah_ppo, lipschitz_bounds, so101_demo  # noqa: F401  they register themselves
