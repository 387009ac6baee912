"""The safety limiter: the last thing a command passes, the same object in simulation and on a robot."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SafetyLimits:
    """What a position command may be.

    The defaults of `max_step` and `max_velocity` let brisk manipulation pass: 4.5 rad/s is 0.18 rad per tick at 25 Hz.

    Attributes:
        low: Lower position limit of each joint [rad], length nu.
        high: Upper position limit of each joint [rad], length nu.
        max_step: Largest change from one safe command to the next [rad].
        max_velocity: Largest rate of change of the safe command [rad/s]; the tighter of the two applies.
        rate_hz: How often `SafetyLimiter.limit` is called [Hz].
        margin: Kept free inside both position limits [rad].
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    max_step: float = 0.18
    max_velocity: float = 4.5
    rate_hz: float = 25.0
    margin: float = 0.0

    def __post_init__(self) -> None:
        if len(self.low) != len(self.high) or not self.low:
            raise ValueError(f"low and high need one value a joint, got {len(self.low)} and {len(self.high)}")
        for name in ("max_step", "max_velocity", "rate_hz"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name} must be positive and finite, got {value}")
        if not (self.margin >= 0):
            raise ValueError(f"margin must not be negative, got {self.margin}")
        for joint, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low + self.margin <= high - self.margin:
                raise ValueError(f"joint {joint} has no room between {low} and {high} rad with margin {self.margin}")

    @property
    def step(self) -> float:
        """The change allowed in one call, ``min(max_step, max_velocity / rate_hz)`` [rad]."""
        return min(self.max_step, self.max_velocity / self.rate_hz)


class SafetyLimiter:
    """Clips position commands to a box and to a step from the previous safe command; rejects non-finite actions whole.

    With ``q`` the previous safe command and ``d`` the allowed step, ``safe = clip(clip(u, low, high), q - d, q + d)``.
    A world that has no previous command starts from its measured pose. Nothing here waits for the device.

    Attributes:
        rejections: Non-finite actions in a row, shape ``(N,)`` int64; None before the first call.
    """

    def __init__(self, config: SafetyLimits) -> None:
        self.config = config
        self.rejections: Tensor | None = None
        self._previous: Tensor | None = None
        self._low: Tensor | None = None
        self._high: Tensor | None = None

    def limit(self, command: Tensor, measured: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest command that is allowed, and where it differs.

        Args:
            command: What is wanted [rad], shape ``(N, nu)``; a row with a NaN or infinity anywhere is not used at all.
            measured: Joint positions [rad], finite, shape ``(N, nu)``.

        Returns:
            The safe command [rad] and which elements were changed (bool), both ``(N, nu)``.
        """
        previous, low, high = self._state_like(command)
        start = torch.where(previous.isnan(), measured, previous)
        finite = command.isfinite().all(-1, keepdim=True)
        step = self.config.step
        boxed = torch.minimum(torch.maximum(command, low), high)
        stepped = torch.minimum(torch.maximum(boxed, start - step), start + step)
        safe = torch.where(finite, stepped, start)
        self._previous = safe.detach()
        assert self.rejections is not None
        self.rejections = torch.where(finite[:, 0], torch.zeros_like(self.rejections), self.rejections + 1)
        return safe, safe != command

    def reset(self, mask: Tensor | None = None, pose: Tensor | None = None) -> None:
        """Forget the previous commands of the worlds in `mask`, shape ``(N,)`` bool; of all worlds when None.

        Args:
            mask: Which worlds.
            pose: Their new previous safe command [rad], ``(N, nu)``; the next measured pose when None.
        """
        if self._previous is None:
            if pose is not None:
                self._previous = pose.detach().clone() if mask is None else torch.where(mask[:, None], pose, math.nan)
                self.rejections = torch.zeros(pose.shape[0], dtype=torch.int64, device=pose.device)
            return
        assert self.rejections is not None
        start = torch.full_like(self._previous, math.nan) if pose is None else pose.detach().to(self._previous)
        if mask is None:
            self._previous, self.rejections = start.clone(), torch.zeros_like(self.rejections)
        else:
            self._previous = torch.where(mask[:, None], start, self._previous)
            self.rejections = torch.where(mask, torch.zeros_like(self.rejections), self.rejections)

    def _state_like(self, command: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Previous commands and limits in the command's dtype and device; allocated on the first call."""
        if self._previous is None:
            self._previous = torch.full_like(command, math.nan, requires_grad=False)
            self.rejections = torch.zeros(command.shape[0], dtype=torch.int64, device=command.device)
        elif self._previous.shape != command.shape:
            shape, held = tuple(command.shape), tuple(self._previous.shape)
            raise ValueError(f"command has shape {shape}, the limiter holds {held}")
        kind = (command.dtype, command.device)
        if self._low is None or self._high is None or (self._low.dtype, self._low.device) != kind:
            margin = self.config.margin
            self._low = torch.tensor(self.config.low, dtype=command.dtype, device=command.device) + margin
            self._high = torch.tensor(self.config.high, dtype=command.dtype, device=command.device) - margin
            self._previous = self._previous.to(command)
        return self._previous, self._low, self._high
