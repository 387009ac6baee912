"""The reproductions fermo knows, a module each; importing this package registers them, and pulls no simulator in."""

from fermo.cli.reproductions import (  # noqa: F401  they register themselves
    beso_block_push,
    beso_distillation,
    beso_kitchen,
    beso_real_time_chunking,
    cart_pole_trade_off,
    half_cheetah_ppo,
    lipschitz_bounds,
    lipschitz_smoothness,
    lipschitz_trade_off,
    so101_demo,
)
