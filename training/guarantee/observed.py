"""An imitator and its expert on the same starts: what the bounds rest on, and what happened beside what they say."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fermo.envs.core.task import Task
from fermo.envs.perturbations.gradient_shift import GradientShift
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.policies.base import Policy
from fermo.training.bench.evaluate import TEST_SEED
from fermo.training.data.reader import Dataset
from fermo.training.demos.dataset import DEMONSTRATORS
from fermo.training.guarantee.closed_loop import Act, ClosedLoop, in_double
from fermo.training.guarantee.contraction import certify_tracking
from fermo.training.guarantee.control_step import ControlStep
from fermo.training.guarantee.imitation import Forgetting, Premises, bounds, fill_radius, residual_floor
from fermo.training.guarantee.plants import StageCost, guaranteed_plant
from fermo.training.guarantee.policy_bound import PolicyBound
from fermo.training.guarantee.samples import Samples, corners
from fermo.training.guarantee.worst_case import rollout

Array = NDArray[np.float64]

PAIRED = 1000
"""Samples of which every pair is looked at."""

SLOPES = 16
"""Slopes of a loop that make the vertices of its contraction, besides those at the corners of the box."""


@dataclass(frozen=True, kw_only=True)
class PairedRuns:
    """States of runs in SI units: N from the same starts ``(T, N, n)``, and two from rest ``(T, 1, n)``.

    Attributes:
        policy: The imitator's.
        expert: The expert's.
        still: The imitator's, from rest.
        shaken: The same under a measurement error that turns round on a beat.
        zeta: Size of that error.
    """

    policy: Array
    expert: Array
    still: Array
    shaken: Array
    zeta: float


def paired_runs(task: Task, resting: Task, act: Act, expert: Act, bound: PolicyBound, zeta: float, *,
                worlds: int = 64, seed: int = TEST_SEED) -> PairedRuns:  # fmt: skip
    """Run the imitator and the expert for an episode; runs go on after a fall.

    Args:
        task: Whose starts are used.
        resting: The same task with every start at rest.
        act: The imitator, as deployed.
        expert: The expert.
        bound: Of the imitator; the error is of size `zeta` in its units.
        zeta: Size of the measurement error.
        worlds: N.
        seed: Of the starts.
    """
    shift = GradientShift(zeta, policy_map=act, scale=torch.from_numpy(bound.observation_std))
    every = (
        rollout(task, act, worlds, seed=seed),
        rollout(task, expert, worlds, seed=seed),
        rollout(resting, act, 1, seed=seed),
        rollout(resting, act, 1, seed=seed, perturbations=(shift,)),
    )
    ours, theirs, still, shaken = (torch.stack(states).numpy() for states in every)
    return PairedRuns(policy=ours, expert=theirs, still=still, shaken=shaken, zeta=zeta)


def premises(runs: PairedRuns, loop: ClosedLoop, expert: ClosedLoop, cost: StageCost, data: tuple[Array, Array],
             action_limit: Array) -> Premises:  # fmt: skip
    """What the bounds rest on; all but the policy's slope is measured on the runs and the data.

    Args:
        runs: See `paired_runs`; the expert's are the held-out states.
        loop: The imitator's loop.
        expert: The expert's loop, in the same units.
        cost: Of a step.
        data: Training observations ``(n, p)`` and actions ``(n, m)``, SI units.
        action_limit: Largest action either way ``(m,)``, SI units.

    Raises:
        FermoError: The expert's loop has no common contraction over the box that the runs fill.
    """
    states = runs.expert.reshape(-1, runs.expert.shape[-1])
    box = np.abs(np.concatenate([runs.policy, runs.expert])).max(axis=(0, 1))
    bound, observations = loop.bound, data[0]
    held_out = expert.step.observe(states)
    answered = (loop.answer(observations) - data[1]) / bound.action_std
    cost_x, cost_u = cost.slopes(box, action_limit, loop.state_unit, bound.action_std)
    slopes = expert.policy_slope(states)
    part = np.random.default_rng(0).permutation(len(observations))[:PAIRED]
    return Premises(
        samples=len(observations),
        train_error=_longest(answered),
        error_floor=residual_floor(observations[part] / bound.observation_std, data[1][part] / bound.action_std,
                                   bound.lipschitz),
        lipschitz=bound.lipschitz,
        expert_lipschitz=float(np.linalg.norm(slopes, ord=2, axis=(1, 2)).max()),
        fill=fill_radius(observations / bound.observation_std, held_out / bound.observation_std),
        expert=_forgetting(expert, box),
        policy=_forgetting_if_any(loop, np.abs(runs.shaken).max(axis=(0, 1))),
        cost_x=cost_x,
        cost_u=cost_u,
        zeta=runs.zeta,
    )


def _forgetting(loop: ClosedLoop, box: Array) -> Forgetting:
    """C, rho and l_u from slopes at the corners of a box and inside it."""
    n, m = loop.B.shape
    x = np.concatenate([corners(n), Samples.draw(n, m, SLOPES, seed=0, with_corners=False).x])
    A, B = loop.jacobians(x * box / loop.state_unit, np.zeros((len(x), m)))
    made = certify_tracking(list(zip(A, B, strict=True)))
    return Forgetting(overshoot=made.overshoot, rho=made.rho, region=float((box / loop.state_unit).min()),
                      input_slope=float(np.linalg.norm(B, ord=2, axis=(1, 2)).max()))  # fmt: skip


def _forgetting_if_any(loop: ClosedLoop, box: Array) -> Forgetting | None:
    try:
        return _forgetting(loop, box)
    except FermoError:
        return None


def observed(runs: PairedRuns, loop: ClosedLoop, expert: ClosedLoop, cost: StageCost) -> dict[str, float]:
    """The largest value seen of everything that `bounds` bounds, by the same name."""
    unit, std = loop.state_unit, loop.bound.action_std
    states = runs.expert.reshape(-1, runs.expert.shape[-1])
    apart = _longest((runs.policy - runs.expert) / unit)
    paid, due, still, shaken = (
        cost.mean(x, each.action(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:2], -1))
        for each, x in ((loop, runs.policy), (expert, runs.expert), (loop, runs.still), (loop, runs.shaken))
    )
    return {
        "policy error": _longest((loop.action(states) - expert.action(states)) / std),
        "deviation from the expert": apart,
        "deviation, error growing off the data": apart,
        "regret": float((paid - due).max()),
        "deviation under measurement error": _longest((runs.shaken - runs.still) / unit),
        "cost of measurement error": float((shaken - still).max()),
    }


def imitation_report(task: Task, policy: Policy, bound: PolicyBound, data: Path,
                     zeta: float) -> tuple[Premises, dict[str, dict[str, Any]]]:  # fmt: skip
    """Premises of a checkpoint and its data, and by name each bound, whether it is established, and what was seen.

    Args:
        task: With a `GuaranteedPlant` and an expert.
        policy: As deployed.
        bound: Its certified slope.
        data: The dataset it was trained on.
        zeta: Size of the measurement error.

    Raises:
        FermoError: The dataset cannot be read, or the expert's loop has no common contraction.
    """
    plant, dataset = guaranteed_plant(task.name), Dataset.open(data)
    expert = DEMONSTRATORS[task.name].make()[1]
    step, cost = ControlStep(task), plant.cost(task.config)
    loop, expert_loop = ClosedLoop(step, in_double(policy), bound), ClosedLoop(step, expert, bound)
    runs = paired_runs(task, make_task(task.name, **plant.at_rest), policy.select_action, expert, bound, zeta)
    samples = dataset.observations.astype(np.float64), dataset.actions.astype(np.float64)
    limit = np.abs(task.model.actuator_ctrlrange).max(axis=1)
    rests_on = premises(runs, loop, expert_loop, cost, samples, limit)
    seen = observed(runs, loop, expert_loop, cost)
    rows = {
        name: {"bound": each.value, "established": each.established, "seen": seen[name]}
        for name, each in bounds(rests_on).items()
    }
    return rests_on, rows


def _longest(rows: Array) -> float:
    return float(np.linalg.norm(rows, axis=-1).max())
