"""How a severity and a bound are chosen, and a whole sweep small enough to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from fermo.errors import FermoError
from fermo.training.bench.bound_sweep import ATTACKS, DELAYS, UNCONSTRAINED, BoundSweep, choose, kept_share, sweep
from fermo.training.reproduce.registry import Number

CONFIG = BoundSweep(task="fermo/CartPole-v0", gammas=(1.0, 2.0, 4.0), severities=(0.1, 0.2, 0.4))


def scores(clean: float, *attacked: float) -> dict[str, Number]:
    """One attack, weaker than another one by a tenth."""
    numbers = {"clean": Number(value=clean)}
    for severity, value in zip(CONFIG.severities, attacked, strict=True):
        numbers |= {f"first/{severity:g}": Number(value=value), f"second/{severity:g}": Number(value=value + 0.1)}
    return numbers


def test_the_strongest_attack_counts() -> None:
    assert kept_share(scores(0.8, 0.6, 0.4, 0.2), 0.2) == pytest.approx(0.5)
    assert kept_share(scores(-3.0, -4.0, -5.0, -6.0), 0.1) == 0.0  # a cost is no score to keep


def test_chosen_is_what_keeps_most_where_the_unconstrained_policy_loses_half() -> None:
    found = {
        UNCONSTRAINED: scores(1.0, 0.9, 0.4, 0.1),
        "gamma=1": scores(0.5, 0.5, 0.5, 0.5),  # keeps all of it, but costs too much
        "gamma=2": scores(0.97, 0.95, 0.9, 0.6),
        "gamma=4": scores(1.0, 1.0, 0.7, 0.2),
    }
    assert choose(CONFIG, found) == (0.2, "gamma=2")
    found["gamma=2"] = scores(0.9, 0.9, 0.9, 0.9)  # costs too much as well
    assert choose(CONFIG, found) == (0.2, "gamma=4")


def test_where_every_bound_costs_too_much_the_loosest_is_tried() -> None:
    found = {UNCONSTRAINED: scores(1.0, 0.9, 0.9, 0.9)}
    found |= {"gamma=1": scores(0.1, 0.0, 0.0, 0.0), "gamma=2": scores(0.2, 0.0, 0.0, 0.0)}
    assert choose(CONFIG, found) == (0.4, "gamma=2")


def test_a_sweep_needs_increasing_positive_numbers() -> None:
    with pytest.raises(FermoError, match="gammas must be positive and increasing"):
        BoundSweep(task="fermo/CartPole-v0", gammas=(2.0, 1.0), severities=(0.1,))


@pytest.mark.slow
def test_a_sweep_scores_every_policy_under_every_attack_and_goes_on_from_its_folder(tmp_path: Path) -> None:
    pytest.importorskip("rsl_rl")
    config = BoundSweep(task="fermo/CartPole-v0", gammas=(1.0,), severities=(0.5, 2.0), episodes=4, recoveries=4,
                        trials=4, validation=4, steps=60, adversary_iterations=1)  # fmt: skip
    numbers = sweep(config, tmp_path, 0)
    for policy in (UNCONSTRAINED, "gamma=1"):
        expected = {f"{policy}/{attack}/{severity:g}" for attack in ATTACKS for severity in config.severities}
        assert expected <= set(numbers)
        assert {f"{policy}/late by {steps}" for steps in DELAYS} <= set(numbers)
        assert {f"{policy}/biased by {severity:g}" for severity in config.severities} <= set(numbers)
        assert f"{policy}/learned_attack/{numbers['severity'].value:g}" in numbers
        assert numbers[f"{policy}/slope"].value <= numbers[f"{policy}/lipschitz"].value
    assert numbers["gamma=1/lipschitz"].value <= 1.0 + 1e-5
    assert sweep(config, tmp_path, 0) == numbers
