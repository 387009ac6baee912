"""What a bound on the slope costs and buys: a policy's error, its cost with and without attack, what is certified."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fermo.envs.core.task import Task
from fermo.envs.perturbations.gradient_shift import GradientShift
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.policies.base import Policy
from fermo.training.bench.evaluate import TEST_SEED, evaluate
from fermo.training.demos.dataset import DEMONSTRATORS
from fermo.training.guarantee.closed_loop import ClosedLoop, in_double
from fermo.training.guarantee.control_step import ControlStep
from fermo.training.guarantee.plants import guaranteed_plant
from fermo.training.guarantee.policy_bound import PolicyBound
from fermo.training.guarantee.report import largest_zeta, safe_box
from fermo.training.guarantee.worst_case import rollout


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """One policy on held-out starts.

    Attributes:
        rmse: Root mean square error of the action on the expert's runs, in standard deviations of the action.
        radius: Spectral radius of the loop at its equilibrium; None where it has none.
        cost: Mean cost of an episode.
        ended: Share of the episodes that ended by the task's own rules: falls.
        attacked_cost: Mean cost under the shift that turns round every 12 steps.
        attacked_ended: Share of those episodes that ended.
        largest_zeta: Largest measurement error certified to keep the plant's safe box; 0 for none.
    """

    rmse: float
    radius: float | None
    cost: float
    ended: float
    attacked_cost: float
    attacked_ended: float
    largest_zeta: float


def trade_off(task: Task, policy: Policy, bound: PolicyBound, zeta: float, *, episodes: int = 256,
              seed: int = TEST_SEED) -> TradeOff:  # fmt: skip
    """Measure one policy, every error of l2 length `zeta` in the units of its certificate.

    Args:
        task: With a `GuaranteedPlant` and an expert.
        policy: As deployed.
        bound: Its certified slope.
        zeta: Length of the measurement error.
        episodes: Starts; each policy meets the same.
        seed: Of the starts.
    """
    act, expert = policy.select_action, DEMONSTRATORS[task.name].make()[1]
    shift = GradientShift(zeta, policy_map=act, scale=torch.from_numpy(bound.observation_std))
    plain = evaluate(task, act, episodes=episodes, seed=seed)
    attacked = evaluate(task, act, episodes=episodes, seed=seed, perturbations=(shift,))
    ended, attacked_ended = (float((each.lengths < task.max_steps).double().mean()) for each in (plain, attacked))
    step = ControlStep(task)
    seen = step.observe(torch.cat(rollout(task, expert, 32, seed=seed)).numpy())
    error = (in_double(policy)(torch.from_numpy(seen)) - expert(torch.from_numpy(seen))).numpy() / bound.action_std
    radius, certified = _certified(task, policy, bound)
    return TradeOff(
        rmse=float(np.sqrt((error**2).mean())), radius=radius, cost=-float(plain.returns.mean()), ended=ended,
        attacked_cost=-float(attacked.returns.mean()), attacked_ended=attacked_ended, largest_zeta=certified,
    )  # fmt: skip


def _certified(task: Task, policy: Policy, bound: PolicyBound) -> tuple[float | None, float]:
    """Spectral radius and largest error, None and 0 where the policy holds the plant nowhere."""
    plant = guaranteed_plant(task.name)
    try:
        loop = ClosedLoop(ControlStep(make_task(task.name, **plant.at_rest)), in_double(policy), bound)
    except FermoError:
        return None, 0.0
    stable = loop.radius < 1.0
    return loop.radius, largest_zeta(loop, safe_box(plant, plant.safe)) if stable else 0.0
