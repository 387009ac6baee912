"""The least slope a policy needs to hold an unstable plant at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from fermo.controllers.lqr import solve_lqr
from fermo.envs.core.task import Task
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.training.guarantee.linearize import linearize
from fermo.training.guarantee.plants import PLANTS, guaranteed_plant
from fermo.training.guarantee.spectrum import spectral_radius

Array = NDArray[np.float64]

MARGIN = 1e-4
"""What is kept between the spectral radius and 1."""

GAIN = 1e-3  # a descent that shortens K by less than this share of it is the last


def stability_floor(A: Array, B: Array, C: Array | None = None) -> tuple[float, Array]:
    """Smallest ``||K||`` found with ``rho(A + B K C) < 1``, and that K: an upper estimate of the floor.

    No policy whose slope is below the floor holds the plant's equilibrium, whatever it was trained on: its Jacobian
    there would be such a K. What is found bounds the floor from above only; it is where a search ended. Give A, B and C
    in normalised units to compare with a certificate's ``lipschitz``, or a network's gamma.

    The search starts from regulators of cheap to dear control and descends in ``||K||`` (spectral norm) with a penalty
    on the spectral radius, by Nelder and Mead's simplex, since the radius has no gradient where eigenvalues meet. Good
    for the few numbers of a small plant's gain.

    Args:
        A: State matrix ``(n, n)``.
        B: Input matrix ``(n, m)``.
        C: Output matrix ``(p, n)`` of full column rank; the identity when None.

    Raises:
        FermoError: No gain found stabilises the plant, or the states cannot be told from the outputs.
    """
    n, m = B.shape
    C = np.eye(n) if C is None else C
    if np.linalg.matrix_rank(C) < n:
        raise FermoError("the floor needs outputs that tell every state: C has not full column rank")
    if spectral_radius(A) < 1.0 - MARGIN:
        return 0.0, np.zeros((m, len(C)))
    best = min((_descend(A, B, C, K) for K in _regulators(A, B, C)), key=_norm)
    return _norm(best), best


def gamma_floor(task: Task, observation_std: Array, action_std: Array) -> float:
    """The floor of a task in the units of a policy's certificate: a smaller ``gamma`` cannot hold the plant.

    An upper estimate (`stability_floor`); a gamma a little above it holds the plant with no room for anything else.

    Args:
        task: One with a `GuaranteedPlant`.
        observation_std: Of the policy's observation normaliser ``(p,)``, SI units.
        action_std: Of its action normaliser ``(m,)``, SI units.

    Raises:
        FermoError: No closed-loop statement is offered for the task.
    """
    guaranteed_plant(task.name)
    rest = linearize(task, np.zeros(task.model.nq + task.model.nv), np.zeros(task.model.nu))
    return stability_floor(rest.A, rest.B * action_std, rest.C / observation_std[:, None])[0]


def require_slope(task: str, gamma: float, observation_std: Array, action_std: Array) -> None:
    """Refuse a bound that cannot hold a task's plant; passes where nothing is claimed for the task.

    Args:
        task: Full name.
        gamma: Of the policy, in its normalised units.
        observation_std: See `gamma_floor`.
        action_std: See `gamma_floor`.

    Raises:
        FermoError: gamma is below the floor, which is named.
    """
    if task in PLANTS and gamma < (floor := gamma_floor(make_task(task), observation_std, action_std)):
        raise FermoError(
            f"gamma {gamma:g} is below the stability floor of {task}: the least slope found that holds it is "
            f"{floor:.3g} in these units; raise gamma, or train with --allow-unstable to see what becomes of it"
        )


def _norm(K: Array) -> float:
    return float(np.linalg.norm(K, 2))


def _regulators(A: Array, B: Array, C: Array) -> list[Array]:
    """Regulators from cheap to dear control, read through the outputs: ``K C = -K_lqr``."""
    n, m = B.shape
    inverse = np.linalg.pinv(C)
    gains = [-solve_lqr(A, B, np.eye(n), weight * np.eye(m)).K @ inverse for weight in np.logspace(-1, 5, 5)]
    held = [K for K in gains if spectral_radius(A + B @ K @ C) < 1.0 - MARGIN]
    if not held:
        raise FermoError("no regulator holds the plant with room to spare, so there is no floor to state")
    return held


def _descend(A: Array, B: Array, C: Array, K: Array) -> Array:
    """A shorter gain that stabilises, by simplexes in factors on K's entries, each begun where the last one ended."""
    while True:
        start, length = K, _norm(K)

        def lengthened(factors: Array, start: Array = start, length: float = length) -> float:
            tried = start * factors.reshape(start.shape)
            excess = spectral_radius(A + B @ tried @ C) - (1.0 - MARGIN)
            return _norm(tried) / length + 1e3 * max(0.0, excess)

        found = minimize(lengthened, np.ones(K.size), method="Nelder-Mead",
                         options={"maxiter": 2000, "xatol": 1e-6, "fatol": 1e-7, "adaptive": True})  # fmt: skip
        shorter = start * found.x.reshape(K.shape)
        if spectral_radius(A + B @ shorter @ C) >= 1.0 or _norm(shorter) > (1.0 - GAIN) * length:
            return K
        K = shorter
