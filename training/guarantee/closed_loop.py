"""Plant and policy as one map of states, about the state in which the policy holds the plant."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import jacrev, vmap

from fermo.errors import FermoError
from fermo.policies.base import Policy
from fermo.training.guarantee.control_step import ControlStep
from fermo.training.guarantee.linearize import STEP, linearize
from fermo.training.guarantee.policy_bound import PolicyBound
from fermo.training.guarantee.spectrum import spectral_radius

Array = NDArray[np.float64]

Act = Callable[[Tensor], Tensor]

NEWTON_STEPS = 20


class ClosedLoop:
    """``x+ = f(x, pi(o(x)) + w)``, with w what a wrong measurement adds to the action, in normalised units.

    A measurement error d changes the action by ``w = pi(o + d) - pi(o)``, so ``||w|| <= L ||d||`` in the units of the
    policy's certificate. Here actions and observations are in those units (`PolicyBound`), and each state in the unit
    that moves the normalised observation by one; `state_unit` converts. About the equilibrium::

        x+ = A x + B w + r(x, w),    A = A_plant + B K C,    K the policy's Jacobian

    Args:
        step: The plant.
        act: Observations ``(N, p)`` to actions ``(N, m)`` in SI units and float64, row by row, differentiable.
        bound: Of the policy's slope.

    Raises:
        FermoError: The policy holds no state near the origin, or the plant is not smooth there.

    Attributes:
        equilibrium: State x* that the policy holds, SI units ``(n,)``.
        held: The action there, SI units ``(m,)``.
        linearization: Of the plant there, SI units.
        state_unit: SI units a normalised unit of each state has, ``(n,)``.
        A: ``(n, n)``, normalised.
        B: ``(n, m)``, normalised.
        A_plant: ``(n, n)``, normalised.
        C: ``(p, n)``, normalised.
        K: ``(m, p)``, normalised.
        radius: Spectral radius of A.
    """

    def __init__(self, step: ControlStep, act: Act, bound: PolicyBound) -> None:
        self.step, self.bound, self._act = step, bound, act
        self.equilibrium = self._find_equilibrium()
        self.held = self.action(self.equilibrium[None])[0]
        self.linearization = lin = linearize(step.task, self.equilibrium, self.held, step)
        self.C = lin.C / bound.observation_std[:, None]
        self.state_unit = 1.0 / np.linalg.norm(self.C, axis=0)
        self.C = self.C * self.state_unit
        self.A_plant = lin.A / self.state_unit[:, None] * self.state_unit
        self.B = lin.B / self.state_unit[:, None] * bound.action_std
        self.K = self.policy_slope(self.equilibrium[None])[0]
        self.A = self.A_plant + self.B @ self.K @ self.C
        self.radius = spectral_radius(self.A)

    def action(self, x: Array) -> Array:
        """``pi(o(x))`` for states ``(N, n)``, both in SI units, ``(N, m)``."""
        return self.answer(self.step.observe(x))

    def answer(self, obs: Array) -> Array:
        """``pi(o)`` for observations ``(N, p)``, both in SI units, ``(N, m)``."""
        return self._act(torch.from_numpy(obs)).numpy()

    def policy_slope(self, x: Array) -> Array:
        """The policy's Jacobian at states ``(N, n)`` [SI], normalised, ``(N, m, p)``."""
        obs = torch.from_numpy(self.step.observe(x))
        slope = vmap(jacrev(lambda row: self._act(row[None])[0]))(obs).numpy()
        return slope / self.bound.action_std[:, None] * self.bound.observation_std

    def plant_residual(self, x: Array, w: Array) -> Array:
        """``f(x, pi + w)`` minus the plant's linearisation, for deviations ``(N, n)`` and ``(N, m)``, normalised."""
        si = self.equilibrium + x * self.state_unit
        u = self.action(si) + w * self.bound.action_std
        reached = (self.step(si, u) - self.equilibrium) / self.state_unit
        return reached - x @ self.A_plant.T - (u - self.held) / self.bound.action_std @ self.B.T

    def policy_deviation(self, x: Array) -> Array:
        """``pi(o(x)) - pi(o(x*))`` for deviations ``(N, n)``, normalised, ``(N, m)``."""
        return (self.action(self.equilibrium + x * self.state_unit) - self.held) / self.bound.action_std

    def jacobians(self, x: Array, w: Array) -> tuple[Array, Array]:
        """Slopes of the closed-loop map in x ``(N, n, n)`` and in w ``(N, n, m)``, by centred differences of the plant.

        The policy's share comes from its exact Jacobian.
        """
        si = self.equilibrium + x * self.state_unit
        u = self.action(si) + w * self.bound.action_std
        n, m = len(self.A), self.B.shape[1]
        moves = STEP * np.eye(n + m)
        ahead, behind = (
            self.step(np.repeat(si, n + m, 0) + sign * np.tile(moves[:, :n], (len(si), 1)),
                      np.repeat(u, n + m, 0) + sign * np.tile(moves[:, n:], (len(si), 1)))
            for sign in (1.0, -1.0)
        )  # fmt: skip
        slopes = ((ahead - behind) / (2 * STEP)).reshape(len(si), n + m, n).transpose(0, 2, 1)
        A = slopes[:, :, :n] / self.state_unit[:, None] * self.state_unit
        B = slopes[:, :, n:] / self.state_unit[:, None] * self.bound.action_std
        return A + B @ self.policy_slope(si) @ self._output_slope(si), B

    def _output_slope(self, si: Array) -> Array:
        """Normalised ``do/dx`` at states ``(N, n)`` [SI], ``(N, p, n)``."""
        n = len(self.A)
        moves = np.tile(STEP * np.eye(n), (len(si), 1))
        rows = np.repeat(si, n, 0)
        slopes = (self.step.observe(rows + moves) - self.step.observe(rows - moves)) / (2 * STEP)
        slopes = slopes.reshape(len(si), n, -1).transpose(0, 2, 1)
        return slopes / self.bound.observation_std[:, None] * self.state_unit

    def _find_equilibrium(self) -> Array:
        """Newton's method on ``f(x, pi(o(x))) = x``, from the origin."""
        x, moves = np.zeros(self.step.n), STEP * np.eye(self.step.n)
        for _ in range(NEWTON_STEPS):
            around = np.concatenate([x[None], x + moves, x - moves])
            reached = self.step(around, self.action(around))
            gap, slopes = reached[0] - x, (reached[1 : len(x) + 1] - reached[len(x) + 1 :]).T / (2 * STEP)
            move = np.linalg.lstsq(np.eye(len(x)) - slopes, gap, rcond=None)[0]
            x = x + move
            if np.abs(move).max() < 1e-10:
                return x
        raise FermoError(
            f"the policy holds {self.step.task.name} nowhere near rest, so nothing is guaranteed: "
            "train longer, or with a larger gamma"
        )


def in_double(policy: Policy) -> Act:
    """A copy of a policy's action map in float64, so that rounding plays no part in what is derived."""
    return copy.deepcopy(policy).double().requires_grad_(False).select_action
