"""A hand that walks from way-point to way-point, at its own pace in each of N worlds."""

from __future__ import annotations

import torch
from torch import Tensor

from fermo.controllers.kinematics import rotation_vector
from fermo.training.demos.kitchen_ways import Ways

LONGEST = 12
"""Way-points that a chain may have."""

LAG = 0.04
"""How far the hand may lag behind the target before that goes slower, down to a fifth at twice the distance [m]."""


class WalkingHand:
    """Where the hand shall be, step by step: along straight lines, turning on the way.

    The target waits for a hand that lags behind. A way-point is reached when the hand is near it, or has had the time
    to get there, and has paused.

    Args:
        position: Where the finger tips are, shape ``(N, 3)`` [m].
        rotation: Of the hand, shape ``(N, 3, 3)``.
        longest: The farthest the target moves in a step [m], shape ``(N,)``.
        widest: The most it turns [rad], shape ``(N,)``.
        patience: Steps to wait for a hand that does not get near.
    """

    def __init__(self, position: Tensor, rotation: Tensor, *, longest: Tensor, widest: Tensor, patience: int) -> None:
        n = len(position)
        self.position, self.rotation = position.clone(), rotation.clone()
        self._longest, self._widest, self._patience = longest, widest, patience
        self._worlds = torch.arange(n)
        self._ways = Ways(
            position=torch.zeros(n, LONGEST, 3, dtype=torch.float64),
            rotation=torch.eye(3, dtype=torch.float64).repeat(n, LONGEST, 1, 1),
            opening=torch.zeros(n, LONGEST, dtype=torch.float64),
            pace=torch.ones(n, LONGEST, dtype=torch.float64),
            near=torch.zeros(n, LONGEST, dtype=torch.float64),
            pause=torch.zeros(n, LONGEST, dtype=torch.int64),
            leaving=torch.zeros(n, LONGEST, dtype=torch.bool),
        )
        self._count, self._index, self._waited = (torch.zeros(n, dtype=torch.int64) for _ in range(3))

    @property
    def idle(self) -> Tensor:
        """Whether the chain has been walked to its end, ``(N,)`` bool."""
        return self._index >= self._count

    @property
    def opening(self) -> Tensor:
        """Where the fingers shall be [m], ``(N,)``."""
        return self._ways.opening[self._worlds, self._now]

    @property
    def _now(self) -> Tensor:
        return torch.minimum(self._index, self._count - 1).clamp_min(0)

    def set_out(self, rows: Tensor, ways: Ways) -> None:
        """Walk a new chain in the worlds `rows` ``(M,)``."""
        count = ways.position.shape[1]
        for mine, new in zip(vars(self._ways).values(), vars(ways).values(), strict=True):
            mine[rows, :count] = new
        self._ways.leaving[rows, count:] = False
        self._count[rows], self._index[rows], self._waited[rows] = count, 0, 0

    def leave(self, worlds: Tensor) -> None:
        """Go on to where the chain leaves, but from here, in the worlds of `worlds` ``(N,)`` bool not so far yet."""
        exit = self._ways.leaving.int().argmax(dim=1)
        early = worlds & ~self.idle & (self._index < exit)
        shift = self.position - self._ways.position[self._worlds, exit - 1]
        self._ways.position.add_((self._ways.leaving & early[:, None])[:, :, None] * shift[:, None])
        self._index = torch.where(early, exit, self._index)
        self._waited = self._waited.masked_fill(early, 0)

    def advance(self, tips: Tensor) -> None:
        """Move the target on, given where the finger tips are, ``(N, 3)`` [m]; where idle it stays."""
        ways, now = self._ways, self._now
        goal, turned = ways.position[self._worlds, now], ways.rotation[self._worlds, now]
        pace = ways.pace[self._worlds, now]
        way, turn = goal - self.position, rotation_vector(turned @ self.rotation.transpose(1, 2))
        steps = torch.maximum(way.norm(dim=1) / (self._longest * pace), turn.norm(dim=1) / (self._widest * pace))
        lag = (tips - self.position).norm(dim=1)
        keeps_up = (2.0 - lag / LAG).clamp(0.2, 1.0)
        share = (keeps_up / steps.clamp_min(1.0))[:, None] * ~self.idle[:, None]
        self.position = self.position + share * way
        self.rotation = _rotation(share * turn) @ self.rotation
        self._waited = torch.where(steps <= 1.0, self._waited + 1, 0)
        near = (tips - goal).norm(dim=1) < ways.near[self._worlds, now]
        late = self._waited - ways.pause[self._worlds, now]
        reached = ((late > 0) & near | (late > self._patience)) & ~self.idle
        self._index += reached
        self._waited = self._waited.masked_fill(reached, 0)


def _rotation(vector: Tensor) -> Tensor:
    """Rotation matrices ``(N, 3, 3)`` of axis times angle ``(N, 3)`` [rad]."""
    x, y, z = vector.unbind(dim=1)
    zero = torch.zeros_like(x)
    return torch.linalg.matrix_exp(torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=1).reshape(-1, 3, 3))
