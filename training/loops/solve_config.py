"""Settings of the loop for families that are solved; importing it does not load torch."""

from __future__ import annotations

from dataclasses import dataclass

from fermo.errors import FermoError


@dataclass(frozen=True, kw_only=True)
class SolveConfig:
    """Settings of `train_solve`.

    Attributes:
        samples: Demonstrated steps to keep, drawn at random; all where there are fewer. Memory grows with the square,
            time with the cube.
        tolerance: Largest duality gap, as a share of the actions' variance.
        max_steps: Of the solver, after which it gives up.
        seed: Of the drawing.
    """

    samples: int = 1_000
    tolerance: float = 1e-4
    max_steps: int = 50_000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("samples", "tolerance", "max_steps"):
            if not getattr(self, name) > 0:
                raise FermoError(f"{name} must be positive, got {getattr(self, name)}")
