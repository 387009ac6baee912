"""What a Lipschitz bound costs and what it buys: scores of cloned policies, clean and attacked, as the bound sweeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fermo.envs.core.task import Task
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.registry import make_perturbation
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.training.bench.adversary import train_adversary
from fermo.training.bench.clones import clones
from fermo.training.bench.evaluate import TEST_SEED, VALIDATION_SEED, evaluate
from fermo.training.demos.dataset import policy_demonstrator, record_dataset
from fermo.training.demos.experts import INSTRUCTIONS
from fermo.training.learn import learn
from fermo.training.recipes import learner_recipe, worlds_recipe
from fermo.training.reproduce.registry import Number
from fermo.training.statistics import bootstrap

UNCONSTRAINED = "mlp"
BEATS = (6, 12, 24, 48)
"""Control steps after which a shift turns round: every loop has a rhythm of its own that drives it the furthest."""
ATTACKS = ("observation_sign_noise", "gradient_attack", *(f"gradient_shift_{beat}" for beat in BEATS))
"""Tried at every severity; the first is chance. The learned adversary joins them at the one that is chosen."""
DELAYS = (1, 2)
"""Control steps by which observations come late. These, and a constant bias, are reported beside the attacks and take
no part in what is kept: nobody who sees a goal in the wrong place all the time can reach the right one."""


@dataclass(frozen=True, kw_only=True)
class BoundSweep:
    """One task's sweep.

    Attributes:
        task: Full name.
        gammas: Lipschitz bounds tried, increasing.
        severities: Radii of the attacks, in standard deviations of the training observations, increasing.
        episodes: Clean demonstrations.
        recoveries: Disturbed ones.
        trials: Held-out starts a score stands on.
        validation: Starts on which severity and bound are chosen.
        steps: Gradient steps of each fit; the task's recipe when None.
        expert_iterations: Rounds of PPO that make the expert where there is no scripted one; the recipe's when None.
        adversary_iterations: Rounds of PPO that make the adversary.
        tolerance: Share of the unconstrained score that a bound may cost and still be chosen.
    """

    task: str
    gammas: tuple[float, ...]
    severities: tuple[float, ...]
    episodes: int = 128
    recoveries: int = 384
    trials: int = 128
    validation: int = 64
    steps: int | None = None
    expert_iterations: int | None = None
    adversary_iterations: int = 60
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        for name in ("gammas", "severities"):
            values = getattr(self, name)
            if not values or list(values) != sorted(values) or not min(values) > 0:
                raise FermoError(f"{name} must be positive and increasing, got {values}")


def sweep(config: BoundSweep, folder: Path, seed: int) -> dict[str, Number]:
    """Demonstrations, one policy a bound and one without, and their scores; what is in `folder` already is continued.

    A score is the success rate, or the mean return where success is not defined. The severity is chosen on validation
    starts: the one at which the strongest attack leaves the unconstrained policy less than half and the best bound the
    most. So is the bound: the best kept share among those that cost at most `tolerance` of the clean score.

    Returns:
        By name: ``POLICY/clean``, ``POLICY/ATTACK/SEVERITY``, ``POLICY/late by STEPS``, ``POLICY/biased by SEVERITY``,
        ``POLICY/lipschitz`` and ``POLICY/slope`` (certified and found, normalised units), and of what was chosen
        ``severity``, ``gamma``, ``kept`` and ``kept by mlp``.
    """
    policies = _fitted(config, folder, seed)
    task = make_task(config.task)
    on_validation = {name: _scores(config, task, policy, config.validation, VALIDATION_SEED)
                     for name, policy in policies.items()}  # fmt: skip
    severity, chosen = choose(config, on_validation)
    numbers: dict[str, Number] = {"severity": Number(value=severity), "gamma": Number(value=float(chosen[6:]))}
    for name, policy in policies.items():
        scores = _scores(config, task, policy, config.trials, TEST_SEED)
        if name in (chosen, UNCONSTRAINED):
            scores[f"learned_attack/{severity:g}"] = _against_adversary(config, task, policy, severity, seed)
        numbers |= {f"{name}/{key}": number for key, number in scores.items()} | _slopes(name, policy)
    for name, label in ((chosen, "kept"), (UNCONSTRAINED, "kept by mlp")):
        ours = {key.removeprefix(f"{name}/"): number for key, number in numbers.items() if key.startswith(f"{name}/")}
        numbers[label] = Number(value=kept_share(ours, severity))
    return numbers


def choose(config: BoundSweep, scores: Mapping[str, Mapping[str, Number]]) -> tuple[float, str]:
    """Severity and policy, from scores on validation starts by policy; see `sweep`."""
    plain = scores[UNCONSTRAINED]
    floor = plain["clean"].value - config.tolerance * abs(plain["clean"].value)
    bounded = [name for name in scores if name != UNCONSTRAINED]
    able = [name for name in bounded if scores[name]["clean"].value >= floor] or bounded[-1:]
    felt = [severity for severity in config.severities if kept_share(plain, severity) < 0.5]
    tried = [(kept_share(scores[name], severity), severity, name)
             for severity in felt or config.severities[-1:] for name in able]  # fmt: skip
    _, severity, name = max(tried)
    return severity, name


def kept_share(scores: Mapping[str, Number], severity: float) -> float:
    """Score under the strongest attack of a severity over the clean one."""
    attacked = [number.value for key, number in scores.items() if key.endswith(f"/{severity:g}")]
    clean = scores["clean"].value
    return min(attacked) / clean if clean > 0 else 0.0


def _fitted(config: BoundSweep, folder: Path, seed: int) -> dict[str, Any]:
    data = folder / "data"
    if not data.is_dir():
        expert = None if config.task in INSTRUCTIONS else _expert(config, folder / "expert", seed)
        record_dataset(config.task, data, episodes=config.episodes, recoveries=config.recoveries, seed=seed,
                       demonstrator=expert)  # fmt: skip
    settings: dict[str, tuple[str, dict[str, Any]]] = {UNCONSTRAINED: ("mlp_bc", {})}
    settings |= {f"gamma={gamma:g}": ("lipschitz_bc", {"gamma": gamma}) for gamma in config.gammas}
    return clones(config.task, data, folder, settings, seed=seed, steps=config.steps)


def _expert(config: BoundSweep, folder: Path, seed: int) -> Any:
    """Trained by reinforcement."""
    rounds = {} if config.expert_iterations is None else {"iterations": config.expert_iterations}
    policy = learn(folder, task=config.task, learner="ppo", config=learner_recipe(config.task, "ppo", **rounds),
                   num_envs=worlds_recipe(config.task, "ppo"), seed=seed)  # fmt: skip
    return policy_demonstrator(make_task(config.task), policy)


def _scores(config: BoundSweep, task: Task, policy: Any, trials: int, seed: int) -> dict[str, Number]:
    """Clean, late, under every attack at every severity, and biased."""
    scores = {"clean": _score(task, policy, trials, seed)[0]}
    for steps in DELAYS:
        late = make_perturbation("observation_delay", steps * task.control_dt)
        scores[f"late by {steps}"] = _score(task, policy, trials, seed, late)[0]
    radii = torch.tensor(config.severities, dtype=torch.float64).repeat_interleave(trials)
    for kind in ATTACKS:
        attack = _attack(kind, radii, policy)
        found = _score(task, policy, trials, seed, attack, groups=len(config.severities))
        scores |= {f"{kind}/{severity:g}": number for severity, number in zip(config.severities, found, strict=True)}
    biased = _score(task, policy, trials, seed, _attack("observation_bias", radii, policy), len(config.severities))
    return scores | {f"biased by {severity:g}": n for severity, n in zip(config.severities, biased, strict=True)}


def _attack(kind: str, severity: float | Tensor, policy: Any, **options: Any) -> Perturbation:
    options["scale"] = policy.observation_normalizer.std
    if kind.startswith("gradient"):
        options["policy_map"] = policy.select_action
    if kind == "gradient_attack":
        options["action_scale"] = policy.action_normalizer.std
    if kind.startswith("gradient_shift"):
        kind, _, beat = kind.rpartition("_")
        options["signs"] = torch.tensor([1.0, -1.0]).repeat_interleave(int(beat))
    return make_perturbation(kind, severity, **options)


def _score(task: Task, policy: Any, trials: int, seed: int, attack: Perturbation | None = None,
           groups: int = 1) -> Sequence[Number]:  # fmt: skip
    """Of each group of worlds; all groups start from the same states."""
    outcome = evaluate(task, policy, episodes=groups * trials, seed=seed,
                       perturbations=() if attack is None else (attack,),
                       worlds=torch.arange(trials).repeat(groups))  # fmt: skip
    if outcome.solved is not None:
        return [Number.rate(int(won.sum()), trials) for won in outcome.solved.reshape(groups, trials)]
    intervals = [bootstrap(returns.numpy(), seed=0) for returns in outcome.returns.reshape(groups, trials)]
    return [Number(value=float(each.value), low=float(each.low), high=float(each.high), trials=trials)
            for each in intervals]  # fmt: skip


def _against_adversary(config: BoundSweep, task: Task, policy: Any, severity: float, seed: int) -> Number:
    """Under an adversary trained against this very policy."""
    from fermo.training.bench.adversary import DEFAULT

    select: Callable[[Tensor], Tensor] = policy.select_action
    adversary = train_adversary(task, select, severity=severity, scale=policy.observation_normalizer.std, seed=seed,
                                config=replace(DEFAULT, iterations=config.adversary_iterations))  # fmt: skip
    attack = _attack("learned_attack", severity, policy, adversary=adversary.select_action)
    return _score(task, policy, config.trials, TEST_SEED, attack)[0]


def _slopes(name: str, policy: Any) -> dict[str, Number]:
    proved = policy.certificate()
    return {f"{name}/lipschitz": Number(value=proved["lipschitz"]),
            f"{name}/slope": Number(value=proved["steepest_slope_found"])}  # fmt: skip
