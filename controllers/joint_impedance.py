"""Joint impedance: every joint behaves as a spring and a damper about a moving target, its weight carried for it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fermo.controllers.kinematics import SerialChain


@dataclass(frozen=True, kw_only=True)
class JointImpedanceConfig:
    """One value a joint; for a slide read N/m, N s/m and N.

    Attributes:
        stiffness: Torque per position error [N m/rad].
        damping: Torque per velocity error [N m s/rad].
        torque_limit: Largest torque either way [N m].
    """

    stiffness: tuple[float, ...]
    damping: tuple[float, ...]
    torque_limit: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.stiffness) == len(self.damping) == len(self.torque_limit):
            raise ValueError(f"stiffness, damping and torque_limit need one value a joint each, got {self}")
        if not (min(self.stiffness) >= 0 and min(self.damping) >= 0 and min(self.torque_limit) > 0):
            raise ValueError(f"stiffness and damping must not be negative, torque_limit must be positive, got {self}")


class JointImpedance:
    """``tau = K (q_d - q) + D (v_d - v) + g(q)``, clipped to the torque limits; no memory.

    A spring and a damper in joint space on top of gravity compensation is passive and settles at a constant target
    from anywhere (Takegaki & Arimoto, "A new feedback method for dynamic control of manipulators", 1981); pushed, it
    yields by the torque over the stiffness (Hogan, "Impedance control", 1985).

    Args:
        chain: The arm; it gives the weight g(q).
        config: Stiffness, damping and limits, one value for each of the chain's n joints.
    """

    def __init__(self, chain: SerialChain, config: JointImpedanceConfig) -> None:
        if len(config.stiffness) != len(chain.joint_names):
            raise ValueError(f"the chain has {len(chain.joint_names)} joints, stiffness {len(config.stiffness)} values")
        self.chain, self.config = chain, config
        values = (config.stiffness, config.damping, config.torque_limit)
        self._stiffness, self._damping, self._limit = (chain.low.new_tensor(value) for value in values)

    def command(self, target: Tensor, state: dict[str, Tensor]) -> Tensor:
        """Joint torques [N m], shape ``(N, n)``.

        Args:
            target: Wanted positions [rad] and velocities [rad/s], shape ``(N, 2, n)``.
            state: ``"joint_position"`` [rad] and ``"joint_velocity"`` [rad/s], each ``(N, n)``.
        """
        position, velocity = state["joint_position"], state["joint_velocity"]
        spring = self._stiffness * (target[:, 0] - position)
        damper = self._damping * (target[:, 1] - velocity)
        torque = spring + damper + self.chain.gravity_torque(position)
        return torch.minimum(torch.maximum(torque, -self._limit), self._limit)

    def reset(self, mask: Tensor | None = None) -> None:
        """There is nothing to forget."""
