"""What smoothness methods give and cost: cloned policies on the same demonstrations, clean and under sensor noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fermo.envs.core.task import Task
from fermo.envs.perturbations.registry import make_perturbation
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.policies.normalizer import Normalizer
from fermo.training.bench.clones import clones
from fermo.training.bench.evaluate import TEST_SEED, VALIDATION_SEED, evaluate
from fermo.training.bench.smoothness import ActionLog, smoothness
from fermo.training.bench.turns import take_turns
from fermo.training.data.reader import Dataset
from fermo.training.demos.dataset import record_dataset
from fermo.training.reproduce.registry import Number
from fermo.training.statistics import bootstrap

PLAIN, BOUNDED, TUNED = "mlp_bc", "lipschitz_bc", "lipschitz_bc_tuned"
UNITS = {"fluctuation": "std", "jitter": "std/s^3", "spectrum": "std"}
"""Of the measures, in standard deviations of the demonstrated actions."""


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """One task's comparison: a plain clone, the methods of `smooth_bc`, and `lipschitz_bc` by its recipe and tuned.

    Attributes:
        task: Full name of a task that defines success.
        weights: What is tried of `SmoothBcConfig.weight`, increasing, by method.
        gammas: What is tried of the tuned `LipschitzBcConfig.gamma`, decreasing.
        noise: Of the sensors, in standard deviations of the training observations.
        episodes: Clean demonstrations.
        recoveries: Disturbed ones.
        trials: Held-out starts of the reported numbers.
        validation: Starts on which weights and gamma are chosen.
        steps: Gradient steps of each fit; the task's recipe when None.
        tolerance: Share of the plain clone's success that a weight or gamma may cost and still be chosen.
        rounds: Turns in which decisions are timed.
    """

    task: str
    weights: Mapping[str, tuple[float, ...]] = field(hash=False)
    gammas: tuple[float, ...]
    noise: float
    episodes: int = 128
    recoveries: int = 384
    trials: int = 256
    validation: int = 128
    steps: int | None = None
    tolerance: float = 0.05
    rounds: int = 15

    def __post_init__(self) -> None:
        for method, tried in self.weights.items():
            if not tried or list(tried) != sorted(tried) or not min(tried) > 0:
                raise FermoError(f"weights of {method} must be positive and increasing, got {tried}")
        if not self.gammas or list(self.gammas) != sorted(self.gammas, reverse=True) or not min(self.gammas) > 0:
            raise FermoError(f"gammas must be positive and decreasing, got {self.gammas}")

    def tried(self) -> dict[str, dict[float, tuple[str, dict[str, Any]]]]:
        """Family and settings by strength, the gentlest first, of everything that has a strength to choose."""
        tried = {method: {weight: ("smooth_bc", {"method": method, "weight": weight}) for weight in weights}
                 for method, weights in self.weights.items()}  # fmt: skip
        return tried | {TUNED: {gamma: (BOUNDED, {"gamma": gamma}) for gamma in self.gammas}}


def compare(config: Smoothing, folder: Path, seed: int) -> dict[str, Number]:
    """Demonstrations, fits and measures of one seed; what is in `folder` already is continued.

    Chosen is the strongest weight or gamma that costs at most `tolerance` of the plain clone's success on validation
    starts, without noise; the gentlest where all cost more.

    Returns:
        By name: ``NAME/MEASURE/clean`` and ``NAME/MEASURE/noise`` with MEASURE one of success, fluctuation, jitter and
        spectrum, ``NAME/time`` (of one decision, over the plain clone's, side by side), and ``NAME/strength``, what was
        chosen.
    """
    data = folder / "data"
    if not data.is_dir():
        record_dataset(config.task, data, episodes=config.episodes, recoveries=config.recoveries, seed=seed)
    settings: dict[str, tuple[str, dict[str, Any]]] = {PLAIN: (PLAIN, {}), BOUNDED: (BOUNDED, {})}
    settings |= {_trial(name, strength): setting
                 for name, tried in config.tried().items() for strength, setting in tried.items()}  # fmt: skip
    made = clones(config.task, data, folder, settings, seed=seed, steps=config.steps)
    task, chosen = make_task(config.task), {PLAIN: made[PLAIN], BOUNDED: made[BOUNDED]}
    numbers: dict[str, Number] = {}
    for name, strength in _strengths(config, task, made).items():
        chosen[name] = made[_trial(name, strength)]
        numbers[f"{name}/strength"] = Number(value=strength)
    scale = _action_scale(Dataset.open(data))
    for name, policy in chosen.items():
        for condition, noise in (("clean", 0.0), ("noise", config.noise)):
            measured = measure(task, policy, scale, noise=noise, trials=config.trials, seed=TEST_SEED)
            numbers |= {f"{name}/{key}/{condition}": number for key, number in measured.items()}
    return numbers | _times(config, chosen)


def choose(plain: float, success: Mapping[float, float], tolerance: float) -> float:
    """The last strength whose success is at least ``(1 - tolerance) * plain``; the first where none is.

    Args:
        plain: Success of the plain clone.
        success: By strength, the gentlest first.
        tolerance: Share of `plain` that may be lost.
    """
    able = [strength for strength, rate in success.items() if rate >= (1 - tolerance) * plain]
    return able[-1] if able else next(iter(success))


def measure(task: Task, policy: Any, scale: Tensor, *, noise: float, trials: int, seed: int) -> dict[str, Number]:
    """Success and smoothness of a policy, the latter as means over the episodes with bootstrap intervals.

    Args:
        task: What to do.
        policy: A one-step policy.
        scale: Of the actions, in their units, shape ``(command_size,)``.
        noise: Of the sensors, in standard deviations of the training observations; none when 0.
        trials: Episodes.
        seed: Of the starts and of everything random.
    """
    log = ActionLog(policy.select_action)
    perturbation = make_perturbation("observation_noise", noise, scale=policy.observation_normalizer.std)
    outcome = evaluate(task, log, episodes=trials, seed=seed, perturbations=(perturbation,) if noise else ())
    found = smoothness(log.actions.cpu(), outcome.lengths, scale=scale, dt=task.control_dt)
    numbers = {"success": Number.rate(int(outcome.success.sum()), trials)}
    for name, unit in UNITS.items():
        values = getattr(found, name).numpy()
        values = values[~np.isnan(values)]  # an episode too short to tell
        value, low, high = (float(each) for each in bootstrap(values, seed=0))
        numbers[name] = Number(value=value, low=low, high=high, unit=unit, trials=len(values))
    return numbers


def _trial(name: str, strength: float) -> str:
    return f"{name}={strength:g}"


def _strengths(config: Smoothing, task: Task, made: Mapping[str, Any]) -> dict[str, float]:
    """What is chosen, by name."""

    def success(name: str) -> float:
        act = made[name].select_action
        outcome = evaluate(task, act, episodes=config.validation, seed=VALIDATION_SEED)
        return float(outcome.success.double().mean())

    plain = success(PLAIN)
    return {name: choose(plain, {strength: success(_trial(name, strength)) for strength in tried}, config.tolerance)
            for name, tried in config.tried().items()}  # fmt: skip


def _action_scale(dataset: Dataset) -> Tensor:
    """Standard deviation of the demonstrated actions, the same for every policy, shape ``(command_size,)``."""
    statistics = Normalizer(dataset.spec.commands)
    statistics.fit(torch.from_numpy(dataset.actions))
    return statistics.std


def _times(config: Smoothing, policies: Mapping[str, Any]) -> dict[str, Number]:
    """Time of one decision for one observation over that of the plain clone, the median of ratios in turns."""
    plain = policies[PLAIN]
    obs = plain.observation_normalizer.mean[None]
    turns = {name: lambda policy=policy: policy.select_action(obs) for name, policy in policies.items()}
    seconds = take_turns(turns, rounds=config.rounds, seconds=0.05)
    numbers = {}
    for name, measured in seconds.items():
        ratios = np.array(measured) / np.array(seconds[PLAIN])
        value, low, high = (float(each) for each in bootstrap(ratios, np.median, seed=0))
        numbers[f"{name}/time"] = Number(value=value, low=low, high=high, trials=config.rounds)
    return numbers
