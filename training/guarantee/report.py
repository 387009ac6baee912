"""Everything that is said of one checkpoint's closed loop, with what simulation showed beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.policies.base import Policy
from fermo.training.guarantee.closed_loop import ClosedLoop, in_double
from fermo.training.guarantee.contraction import Contraction, certify_contraction, largest_error_slope
from fermo.training.guarantee.control_step import ControlStep
from fermo.training.guarantee.ellipsoid_tube import EllipsoidTube, ellipsoid_tube
from fermo.training.guarantee.floor import stability_floor
from fermo.training.guarantee.linearize import Linearization
from fermo.training.guarantee.plants import GuaranteedPlant, guaranteed_plant
from fermo.training.guarantee.policy_bound import PolicyBound
from fermo.training.guarantee.tube import Tube, peak_gain_tube
from fermo.training.guarantee.worst_case import WorstFound, worst_found

Array = NDArray[np.float64]
Made = TypeVar("Made")

SAMPLES = 4096

CONDITIONS = (
    "derived: the action changes by at most lipschitz times the measurement error (the policy's certificate, global)",
    "derived: the tube bounds every state at every time of a loop that starts at rest, if its premises hold in it",
    "measured: how far policy and plant depart from linear, and how their slopes vary, on samples of the tube's own "
    "box, with a tenth added for what samples miss; it is not proved for every state in it",
    "the plant is the simulated one: nothing is said of other masses, delays, contacts or a real machine",
    "simulation is in float32 and float64, derivation in float64; rounding is orders of magnitude below what is shown",
)


@dataclass(frozen=True, kw_only=True)
class Guarantee:
    """What `fermo guarantee` prints and writes; states in SI units unless they are called normalised.

    Attributes:
        task: Full name.
        zeta: Size of the measurement error: l2, in standard deviations of the training observations.
        bound: The policy's certificate in short.
        states: Names, in order.
        units: Their SI units.
        equilibrium: State the policy holds ``(n,)``.
        linearization: Of the plant there, checked against the batched environment.
        spectral_radius: Of plant and policy there.
        floor: Upper estimate of the least slope that holds the plant, in the units of the certificate.
        contraction: Common quadratic norm over the ellipsoid's vertices, normalised; over the equilibrium alone where
            there is no ellipsoid.
        error_slope: How much the policy may differ from those slopes before that norm is lost, normalised.
        peak_gain: Tube from the l1 gains; None where none closes.
        ellipsoid: Tube from the common invariant ellipsoid; None where none closes.
        tube: The smaller half width of the two for each state ``(n,)``; None where neither closes.
        worst: What attacks reached.
        largest_zeta: Largest error found for which the peak-gain tube closes and stays in the safe box.
        safe: That box, by state.
        missing: Why something is None.
        conditions: What the statements rest on.
    """

    task: str
    zeta: float
    bound: PolicyBound
    states: tuple[str, ...]
    units: tuple[str, ...]
    equilibrium: Array
    linearization: Linearization
    spectral_radius: float
    floor: float
    contraction: Contraction | None
    error_slope: float | None
    peak_gain: Tube | None
    ellipsoid: EllipsoidTube | None
    tube: Array | None
    worst: WorstFound
    largest_zeta: float
    safe: Mapping[str, float]
    missing: Mapping[str, str]
    conditions: tuple[str, ...] = CONDITIONS


def guarantee(task_name: str, policy: Policy, bound: PolicyBound, zeta: float, *,
              safe: Mapping[str, float] | None = None, samples: int = SAMPLES, seed: int = 0) -> Guarantee:  # fmt: skip
    """Derive what can be derived of a policy's loop, and try to break it in simulation.

    Args:
        task_name: Full name of a task with a `GuaranteedPlant`.
        policy: As deployed.
        bound: Its certified slope.
        zeta: Size of the measurement error.
        safe: Largest distance from rest by state, SI units; the plant's own when None.
        samples: How many states each premise is measured on.
        seed: Of samples and attacks.

    Raises:
        FermoError: Nothing is claimed for the task, the loop is unstable, or simulation left the tube (a bug).
    """
    if not zeta > 0:
        raise FermoError(f"zeta must be positive, got {zeta:g}")
    plant = guaranteed_plant(task_name)
    safe = plant.safe if safe is None else safe
    room = safe_box(plant, safe)
    task = make_task(task_name, **plant.at_rest)
    loop = ClosedLoop(ControlStep(task), in_double(policy), bound)
    floor = stability_floor(loop.A_plant, loop.B, loop.C)[0]
    if not loop.radius < 1.0:
        raise _unstable(loop, floor)
    start, missing = np.abs(loop.equilibrium), {}
    by_gain = _try(missing, "peak_gain", lambda: peak_gain_tube(loop, zeta, start, samples=samples, seed=seed))
    by_ellipsoid = _try(missing, "ellipsoid", lambda: ellipsoid_tube(loop, zeta, start, seed=seed))
    vertices = [(A, loop.B) for A, _ in by_ellipsoid.vertices] if by_ellipsoid else [(loop.A, loop.B)]
    widths = [each.half_widths for each in (by_gain, by_ellipsoid) if each is not None]
    tube = np.min(widths, axis=0) if widths else None
    worst = worst_found(task, policy.select_action, loop, zeta, seed=seed)
    if tube is not None and (worst.largest > tube).any():
        where = plant.states[int(np.argmax(worst.largest / tube))]
        raise FermoError(f"an attack drove {where} out of its tube, so one of the two is wrong: report this as a bug")
    return Guarantee(
        task=task_name, zeta=zeta, bound=bound, states=plant.states, units=plant.units, equilibrium=loop.equilibrium,
        linearization=loop.linearization, spectral_radius=loop.radius, floor=floor,
        contraction=_try(missing, "contraction", lambda: certify_contraction(vertices)),
        error_slope=_try(missing, "error_slope", lambda: largest_error_slope(vertices, output=loop.C)),
        peak_gain=by_gain, ellipsoid=by_ellipsoid, tube=tube, worst=worst,
        largest_zeta=largest_zeta(loop, room, seed=seed), safe=safe, missing=missing,
    )  # fmt: skip


def _unstable(loop: ClosedLoop, floor: float) -> FermoError:
    return FermoError(
        f"the loop is unstable at its equilibrium (spectral radius {loop.radius:.4g}), so nothing follows: "
        f"the policy's slope is at most {loop.bound.lipschitz:.3g}, the plant takes about {floor:.3g}; raise gamma, "
        "or train longer"
    )


def largest_zeta(loop: ClosedLoop, box: Array, *, bisections: int = 10, samples: int = 1024, seed: int = 0) -> float:
    """Largest measurement error found for which the peak-gain tube, from rest, stays in `box` ``(n,)`` [SI].

    The first of 8, 4, 2, ... for which it does, then bisection up to the one before; the value returned was itself
    certified. 0 where not even a hundred-thousandth is.
    """
    start, room = np.abs(loop.equilibrium), box - np.abs(loop.equilibrium)

    def stays(zeta: float) -> bool:
        try:
            made = peak_gain_tube(loop, zeta, start, samples=samples, seed=seed, limit=room)
        except FermoError:
            return False
        return bool((made.half_widths <= room).all())

    low = next((zeta for zeta in 2.0 ** -np.arange(-3, 20) if stays(zeta)), 0.0)
    high = 2 * low
    for _ in range(bisections):
        middle = (low + high) / 2
        low, high = (middle, high) if stays(middle) else (low, middle)
    return low


def safe_box(plant: GuaranteedPlant, safe: Mapping[str, float]) -> Array:
    """The safe box ``(n,)``, infinite where nothing is asked.

    Raises:
        FermoError: There is no such state, or a limit is not positive.
    """
    for name, limit in safe.items():
        if name not in plant.states:
            raise FermoError(f"there is no state {name!r} to keep safe: choose from {', '.join(plant.states)}")
        if not limit > 0:
            raise FermoError(f"the safe distance of {name} must be positive, got {limit:g}")
    return np.array([safe.get(name, np.inf) for name in plant.states])


def _try(missing: dict[str, str], name: str, make: Callable[[], Made]) -> Made | None:
    """What `make` gives, or None and a note why not."""
    try:
        return make()
    except FermoError as error:
        missing[name] = str(error)
        return None
