"""What an arm's safety filter is told; loads without torch, so that the command line finds a mistake at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fermo.errors import FermoError

HalfSpace = tuple[float, float, float, float]
"""Unit normal (x, y, z) and offset c [m]: the points p with n.p >= c."""

TABLE: HalfSpace = (0.0, 0.0, 1.0, 0.0)
"""Above the plane on which the arm stands."""


@dataclass(frozen=True, kw_only=True)
class ArmFilterConfig:
    """How near an arm may come to what.

    Attributes:
        half_spaces: Where the tool must stay, each as normal and offset in the base frame [m].
        gamma: Largest share of the distance to a half-space's plane that a goal may lose in a period. One over the
            number of periods that the servos lag behind, or smaller; a smaller one brakes earlier.
        error: How far off a measured joint angle may be, element by element [rad].
        max_velocity: Of the goals [rad/s]; no more than the limiter's behind the filter.
    """

    half_spaces: tuple[HalfSpace, ...] = (TABLE,)
    gamma: float = 0.25
    error: float = 0.005
    max_velocity: float = 4.5

    def __post_init__(self) -> None:
        if not self.half_spaces:
            raise FermoError("name at least one half-space: joint limits alone are kept by the safety limiter")
        for half_space in self.half_spaces:
            if not math.isclose(math.hypot(*half_space[:3]), 1.0, rel_tol=1e-6) or not math.isfinite(half_space[3]):
                raise FermoError(f"a half-space is a unit normal x y z and an offset in metres, got {half_space}")
        if not 0 < self.gamma <= 1:
            raise FermoError(f"gamma must lie above 0 and at most at 1, got {self.gamma}")
        if not (self.error >= 0 and math.isfinite(self.error)):
            raise FermoError(f"error must be a finite angle of at least 0 rad, got {self.error}")
        if not (self.max_velocity > 0 and math.isfinite(self.max_velocity)):
            raise FermoError(f"max_velocity must be positive and finite, got {self.max_velocity}")
