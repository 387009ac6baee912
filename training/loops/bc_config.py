"""Settings of the behaviour-cloning loop; importing it does not load torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fermo.errors import FermoError


@dataclass(frozen=True, kw_only=True)
class BcConfig:
    """Settings of `train_bc`.

    Attributes:
        steps: Gradient steps in all.
        batch_size: Samples a step, shared by all processes; the whole data set where that is smaller.
        lr: Peak learning rate of AdamW.
        warmup_steps: Linear rise to `lr`, after which a cosine falls to `final_lr_fraction` of it at the last step.
        final_lr_fraction: Of `lr`.
        lr_decay: Factor on the rate after every 100 steps in place of the cosine, as BESO's released code has 0.99;
            None for the cosine.
        weight_decay: Decoupled.
        grad_clip: Largest l2 norm of the gradient; None for no limit.
        ema_decay: Of the exponential moving average of the weights, which the trained policy gets; None for the last
            weights.
        validation: Share of the episodes that is held out; the loss on them is measured whenever a state is saved.
        seed: Of the batch order, the augmentation and what is held out.
        log_every: Steps between TensorBoard points.
        checkpoint_every: Steps between saved states.
        device: Where to train.
    """

    steps: int = 10_000
    batch_size: int = 1024
    lr: float = 1e-3
    warmup_steps: int = 200
    final_lr_fraction: float = 0.01
    lr_decay: float | None = None
    weight_decay: float = 0.0
    grad_clip: float | None = None
    ema_decay: float | None = None
    validation: float = 0.0
    seed: int = 0
    log_every: int = 50
    checkpoint_every: int = 1_000
    device: str = "cpu"

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "lr", "log_every", "checkpoint_every"):
            if not getattr(self, name) > 0:
                raise FermoError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("warmup_steps", "weight_decay", "final_lr_fraction", "seed"):
            if not getattr(self, name) >= 0:
                raise FermoError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise FermoError(f"ema_decay must lie between 0 and 1, got {self.ema_decay}")
        if self.lr_decay is not None and not 0 < self.lr_decay <= 1:
            raise FermoError(f"lr_decay must lie in (0, 1], got {self.lr_decay}")
        if not 0 <= self.validation < 1:
            raise FermoError(f"validation must lie in [0, 1), got {self.validation}")

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        if self.lr_decay is not None:
            return self.lr * self.lr_decay ** (step // 100)
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.lr * (self.final_lr_fraction + (1 - self.final_lr_fraction) * cosine)
