"""Settings of a distillation; importing it does not load torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fermo.errors import FermoError
from fermo.training.loops.bc_config import BcConfig


@dataclass(frozen=True, kw_only=True)
class DistillConfig(BcConfig):
    """Settings of a consistency distillation (Song et al. 2023), on those of the loop it shares with cloning.

    Attributes:
        levels: Noise levels, Karras' from sigma_min to sigma_max, between neighbours of which the teacher steps.
        solver: Of that step; Heun's asks the teacher twice.
        huber: Where the loss ``sqrt(|d|^2 + c^2) - c`` turns from a square into a distance, c in units of sigma_data
            (Song and Dhariwal 2024).
        target_decay: Of the moving average of the student that it is held against at the lower level.
    """

    steps: int = 20_000
    lr: float = 3e-4
    ema_decay: float | None = 0.999
    levels: int = 18
    solver: Literal["heun", "euler"] = "heun"
    huber: float = 0.03
    target_decay: float = 0.95

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.levels < 2 or self.solver not in ("heun", "euler"):
            raise FermoError(f"distillation needs at least 2 levels and the solver heun or euler, got {self.levels} "
                             f"and {self.solver}")  # fmt: skip
        if not self.huber > 0 or not 0 <= self.target_decay < 1:
            raise FermoError(f"huber must be positive and target_decay lie in [0, 1), got {self.huber} and "
                             f"{self.target_decay}")  # fmt: skip
