"""Linearisation of one control step, composed from MuJoCo's own derivatives and checked against the environment."""

from __future__ import annotations

from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from fermo.envs.core.task import Task
from fermo.errors import FermoError
from fermo.training.guarantee.control_step import ControlStep

Array = NDArray[np.float64]

STEP = 1e-6
"""Finite-difference step, in the state's and the action's SI units."""

AGREEMENT = 1e-5
"""How far two ways to the same derivative may lie apart, relative to the largest entry."""


@dataclass(frozen=True, kw_only=True)
class Linearization:
    """``x+ = f(x0, u0) + A (x - x0) + B (u - u0)`` and ``o = o(x0) + C (x - x0)``, for one control step.

    States are ``(qpos, qvel)``, n of them; actions m, observations p; all in SI units.

    Attributes:
        x: Where, ``(n,)``.
        u: Action there, ``(m,)``.
        next_x: ``f(x0, u0)``, ``(n,)``.
        A: ``(n, n)``.
        B: ``(n, m)``.
        C: ``(p, n)``.
    """

    x: Array
    u: Array
    next_x: Array
    A: Array
    B: Array
    C: Array


def linearize(task: Task, x: Array, u: Array, step: ControlStep | None = None) -> Linearization:
    """Linearise a task's control step at a state and an action, and check the result.

    MuJoCo gives the derivative of a physics step by centred differences (``mjd_transitionFD``); over the s substeps of
    a control step, during which the action is held, they compose along the substeps' own states::

        A <- A_k A,    B <- A_k B + B_k,    k = 1 .. s

    Args:
        task: See `ControlStep`.
        x: State ``(n,)``.
        u: Action ``(m,)``, within the actuators' range.
        step: The task's `ControlStep`, when there is one already.

    Raises:
        FermoError: The result disagrees with finite differences of the batched environment: something between the
            action and the state is not smooth there, a contact or a limit for example.
    """
    step = step or ControlStep(task)
    A, B, next_x = _compose(task, x, u)
    moved = STEP * np.eye(len(x))
    C = (step.observe(x + moved) - step.observe(x - moved)).T / (2 * STEP)
    lin = Linearization(x=x, u=u, next_x=next_x, A=A, B=B, C=C)
    check_linearization(lin, step)
    return lin


def _compose(task: Task, x: Array, u: Array) -> tuple[Array, Array, Array]:
    """A, B and the state reached, from the derivatives of each substep."""
    model = task.engine_model("cpu")
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:], data.ctrl[:] = x[: model.nq], x[model.nq :], u
    n = len(x)
    A, B = np.eye(n), np.zeros((n, model.nu))
    A_k, B_k = np.zeros_like(A), np.zeros_like(B)
    for _ in range(task.substeps):
        mujoco.mjd_transitionFD(model, data, STEP, True, A_k, B_k, None, None)
        A, B = A_k @ A, A_k @ B + B_k
        mujoco.mj_step(model, data)
    return A, B, np.concatenate([data.qpos, data.qvel])


def check_linearization(lin: Linearization, step: ControlStep) -> None:
    """Compare A, B and the state reached with centred differences of the batched environment.

    Raises:
        FermoError: They differ; says which matrix, and whether it is the transpose that would agree.
    """
    n, m = lin.B.shape
    moves = STEP * np.eye(n + m)
    x, u = lin.x + moves[:, :n], lin.u + moves[:, n:]
    back_x, back_u = lin.x - moves[:, :n], lin.u - moves[:, n:]
    measured = (step(x, u) - step(back_x, back_u)).T / (2 * STEP)
    for name, ours, theirs in (("A", lin.A, measured[:, :n]), ("B", lin.B, measured[:, n:])):
        scale = max(1.0, float(np.abs(theirs).max()))
        error = float(np.abs(ours - theirs).max()) / scale
        if error > AGREEMENT:
            square = ours.shape == ours.T.shape
            turned = square and float(np.abs(ours.T - theirs).max()) / scale <= AGREEMENT
            hint = "it is the transpose" if turned else "the plant is not smooth there, or it is another plant's"
            raise FermoError(f"{name} differs from {step.task.name} by {error:.2g} of its largest entry: {hint}")
    if not np.allclose(step(lin.x[None], lin.u[None])[0], lin.next_x, rtol=0, atol=1e-9):
        raise FermoError(f"the state reached is not the one {step.task.name} reaches: linearise that task")
