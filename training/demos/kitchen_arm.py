"""From where the hand shall be to the joint velocities that FrankaKitchen takes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fermo.assets.scenes.franka_kitchen import TOOL_SITE, joint_specifications
from fermo.controllers.inverse_kinematics import InverseKinematics, InverseKinematicsConfig
from fermo.controllers.kinematics import SerialChain
from fermo.envs.tasks.franka_kitchen import ARM, ROBOT, FrankaKitchen

FINGERTIP = 0.043
"""How far beyond the tool's site the fingers' last capsules lie [m]; they are 7 mm thick."""

REST = (-1.2, -1.1, 1.5, -2.2, 0.3, 1.9, 0.8)
"""The posture that the arm prefers [rad]: elbow to the left, from where it reaches all that there is to do."""

_MARGIN = 0.03  # to the joints' limits [rad]


class KitchenArm:
    """Positions of arm and fingers to reach at the next step, as actions of a task.

    A joint is a spring of stiffness k to the commanded position c, with damping b and a load tau: slow enough for its
    inertia not to matter, b q' = k (c - q) - tau. Held for a control step dt, c leads from q to

        q* = q + s (c - tau / k - q),   s = 1 - exp(-k dt / b),

    which is solved for c; the action is the velocity (c - q) / dt that the task turns into c.

    Args:
        task: Whose model and rate to use.
    """

    def __init__(self, task: FrankaKitchen) -> None:
        model = task.model
        chain = SerialChain.from_model(model, TOOL_SITE)
        tip = torch.eye(4, dtype=torch.float64)
        tip[2, 3] = FINGERTIP
        low, high = torch.tensor(joint_specifications("pos_bound")[ARM], dtype=torch.float64).T
        self.chain = replace(chain, tip=chain.tip @ tip, low=torch.maximum(chain.low, low) + _MARGIN,
                             high=torch.minimum(chain.high, high) - _MARGIN)  # fmt: skip
        config = InverseKinematicsConfig(orientation_weight=0.2, posture_gain=0.05, iterations=6,
                                         max_travel=0.07)
        self.inverse = InverseKinematics(self.chain, torch.tensor(REST, dtype=torch.float64), config)
        self._stiffness = torch.from_numpy(model.actuator_gainprm[ROBOT, 0].copy())
        rate = self._stiffness / torch.from_numpy(model.dof_damping[ROBOT].copy())
        self._share = 1.0 - torch.exp(-rate * task.control_dt)
        self._longest = task.control_dt * task.top_speed

    def pose(self, q: Tensor) -> tuple[Tensor, Tensor]:
        """Position ``(N, 3)`` [m] and rotation ``(N, 3, 3)`` of the finger tips for arm joints `q` ``(N, 7)`` [rad]."""
        return self.chain.forward(q)[:2]

    def action(self, robot: Tensor, target: Tensor) -> Tensor:
        """Actions ``(N, 9)``, within what is allowed.

        Args:
            robot: Where arm and fingers are, shape ``(N, 9)`` [rad], [m].
            target: Where they shall be at the next step, shape ``(N, 9)``.
        """
        offset = (target - robot) / self._share
        offset[:, ARM] += self.chain.gravity_torque(robot[:, ARM]) / self._stiffness[ARM]
        return (offset / self._longest).clamp(-1.0, 1.0)
