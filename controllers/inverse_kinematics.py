"""Inverse kinematics by damped least squares, batched, with joint and velocity limits and a null-space posture."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fermo.controllers.kinematics import SerialChain, rotation_vector


@dataclass(frozen=True, kw_only=True)
class InverseKinematicsConfig:
    """How to solve.

    Attributes:
        damping: lambda of the damped inverse; larger is calmer near singularities.
        orientation_weight: Metres that one radian of orientation error counts as [m/rad].
        iterations: Gauss-Newton steps per call.
        max_step: Largest change of a joint per iteration [rad].
        max_travel: Largest change of a joint per call [rad]: its velocity limit times the period of the calls.
        posture_gain: Fraction of the null-space posture error removed per iteration.
    """

    damping: float = 0.02
    orientation_weight: float = 0.1
    iterations: int = 15
    max_step: float = 0.3
    max_travel: float = math.inf
    posture_gain: float = 0.1

    def __post_init__(self) -> None:
        for name in ("damping", "orientation_weight", "max_step"):
            if not (getattr(self, name) > 0 and math.isfinite(getattr(self, name))):
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not self.max_travel > 0:
            raise ValueError(f"max_travel must be positive, got {self.max_travel}")
        if self.iterations < 1:
            raise ValueError(f"iterations must be at least 1, got {self.iterations}")
        if not 0 <= self.posture_gain <= 1:
            raise ValueError(f"posture_gain must lie between 0 and 1, got {self.posture_gain}")


class InverseKinematics:
    """Joint positions that bring a chain's site to a pose.

    Each iteration solves  dq = J^T (J J^T + lambda^2 I)^-1 e + (I - J^+ J) k (q_rest - q)  (Nakamura and Hanafusa,
    1986; Wampler, 1986) with position and orientation errors e in the world frame, clips dq and clamps q to the joint
    and velocity limits. J^+ is the damped inverse, so that a posture that pulls across the task space leaves a residual
    error of the order of lambda^2 k |q_rest - q| / |J|.
    """

    def __init__(self, chain: SerialChain, rest: Tensor, config: InverseKinematicsConfig | None = None) -> None:
        self.chain, self.rest = chain, rest
        self.config = config or InverseKinematicsConfig()

    def solve(self, position: Tensor, rotation: Tensor, q0: Tensor) -> Tensor:
        """Joint positions ``(N, n)`` for a target pose.

        Args:
            position: Of the site, shape ``(N, 3)`` [m].
            rotation: Of the site, shape ``(N, 3, 3)``.
            q0: Where to start, shape ``(N, n)``.
        """
        q = q0.clamp(self.chain.low, self.chain.high)
        low = torch.maximum(self.chain.low, q - self.config.max_travel)
        high = torch.minimum(self.chain.high, q + self.config.max_travel)
        for _ in range(self.config.iterations):
            q = (q + self.step(position, rotation, q)).clamp(low, high)
        return q

    def step(self, position: Tensor, rotation: Tensor, q: Tensor) -> Tensor:
        """One clipped Gauss-Newton step dq ``(N, n)``."""
        c = self.config
        p, R, J = self.chain.forward(q)
        turn = rotation_vector(rotation @ R.transpose(1, 2))
        e = torch.cat([position - p, c.orientation_weight * turn], dim=1)
        J = torch.cat([J[:, :3], c.orientation_weight * J[:, 3:]], dim=1)
        gram = J @ J.transpose(1, 2) + c.damping**2 * torch.eye(6, dtype=q.dtype)
        rest = c.posture_gain * (self.rest - q)
        # dq = J^+ (e - J rest) + rest is the same as the formula above, with one solve
        dq = (J.transpose(1, 2) @ torch.linalg.solve(gram, (e[:, :, None] - J @ rest[:, :, None])))[:, :, 0] + rest
        return dq.clamp(-c.max_step, c.max_step)

    def command(self, target: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Controller form of `solve`.

        Args:
            target: Position and row-major rotation of the site, shape ``(N, 12)``.
            state: ``"joint_position"``, shape ``(N, n)``.
        """
        return self.solve(target[:, :3], target[:, 3:].reshape(-1, 3, 3), state["joint_position"])

    def reset(self, mask: Tensor | None = None) -> None:
        """Nothing is remembered."""
