"""What the world does on its own: something pushes the robot, someone moves the object."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import mujoco
import torch
from torch import Tensor

from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.dynamics import body_id
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv


class Push(Perturbation):
    """A horizontal force at a body's centre of mass, once per period, at a random time and in a random direction.

    Args:
        severity: Force [N], one or per world ``(N,)``.
        body: What is pushed.
        duration_s: How long each push lasts [s]; whole control steps, at least one.
        period_s: One push falls in every period of this length [s].
    """

    name = "push"
    unit = "N"
    nominal = 0.0
    low = 0.0
    high = 200.0

    def __init__(self, severity: float | Tensor, *, body: str = "gripper", duration_s: float = 0.2,
                 period_s: float = 2.0) -> None:  # fmt: skip
        super().__init__(severity)
        if not 0 < duration_s <= period_s:
            raise FermoError(f"{self.name} needs 0 < duration_s <= period_s, got {duration_s:g} s and {period_s:g} s")
        self.body, self.duration_s, self.period_s = body, duration_s, period_s

    def attach(self, env: VectorEnv) -> None:
        """See `Perturbation.attach`."""
        super().attach(env)
        self._body = body_id(env.backend.model, self.body, self.name)
        dt = env.task.control_dt
        self._duration = max(1, round(self.duration_s / dt))
        self._period = max(self._duration, round(self.period_s / dt))
        self._force = torch.zeros(env.num_envs, 2, dtype=env.backend.dtype, device=env.device)

    def reset(self, env: VectorEnv, mask: Tensor) -> None:
        """See `Perturbation.reset`."""
        self._force.masked_fill_(mask[:, None], 0.0)  # the back end cleared its own

    def before_step(self, env: VectorEnv) -> None:
        """See `Perturbation.before_step`."""
        period, phase = env.steps // self._period, env.steps % self._period
        when, direction = env.random.uniform(self.name, (2,), step=period).unbind(dim=1)
        start = torch.floor(when * (self._period - self._duration + 1))
        active = (phase >= start) & (phase < start + self._duration)
        force = torch.where(active, self.severity, 0.0)[:, None] * _unit_vector(direction)
        force = force.to(self._force.dtype)
        # Adds its own share only: other perturbations may push the same body.
        env.backend.read("xfrc_applied")[:, self._body, :2] += force - self._force
        self._force = force


class ObjectMove(Perturbation):
    """Someone shoves the object aside: a horizontal jump at a random time, unless it has been lifted by then.

    Args:
        severity: Length of the jump [m], one or per world ``(N,)``.
        body: A body on a free joint.
        window_s: Earliest and latest time of the jump in the episode [s].
    """

    name = "object_move"
    unit = "m"
    nominal = 0.0
    low = 0.0
    high = 1.0

    lifted = 0.005
    """Height above its start [m] from which the object counts as lifted and is left alone."""

    def __init__(self, severity: float | Tensor, *, body: str = "cube",
                 window_s: tuple[float, float] = (0.2, 1.0)) -> None:  # fmt: skip
        super().__init__(severity)
        if not 0 <= window_s[0] <= window_s[1]:
            raise FermoError(f"{self.name} needs an ordered window of times, got {window_s}")
        self.body, self.window_s = body, window_s

    def attach(self, env: VectorEnv) -> None:
        """See `Perturbation.attach`."""
        super().attach(env)
        model = env.backend.model
        body = body_id(model, self.body, self.name)
        joint = int(model.body_jntadr[body])
        if joint < 0 or model.jnt_type[joint] != int(mujoco.mjtJoint.mjJNT_FREE):
            raise FermoError(f"{self.name} moves bodies on a free joint, and {self.body!r} has none")
        self._x = int(model.jnt_qposadr[joint])
        self._start_height = torch.zeros(env.num_envs, dtype=env.backend.dtype, device=env.device)

    def reset(self, env: VectorEnv, mask: Tensor) -> None:
        """See `Perturbation.reset`."""
        height = env.backend.read("qpos")[:, self._x + 2]
        self._start_height = torch.where(mask, height, self._start_height)

    def before_step(self, env: VectorEnv) -> None:
        """See `Perturbation.before_step`."""
        qpos = env.backend.read("qpos")
        when, direction = env.random.uniform(self.name, (2,)).unbind(dim=1)
        early, late = self.window_s
        now = env.steps == torch.floor((early + (late - early) * when) / env.task.control_dt)
        still = qpos[:, self._x + 2] - self._start_height < self.lifted
        jump = torch.where(now & still, self.severity, 0.0)[:, None] * _unit_vector(direction)
        qpos[:, self._x : self._x + 2] += jump.to(qpos.dtype)


def _unit_vector(turns: Tensor) -> Tensor:
    """Horizontal unit vectors ``(N, 2)`` for angles in full turns ``(N,)``."""
    angle = 2.0 * math.pi * turns
    return torch.stack([torch.cos(angle), torch.sin(angle)], dim=1)
