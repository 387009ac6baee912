"""How a strength is chosen, what a rollout's measures are, and a whole comparison small enough to run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.policies.registry import config_class, make_policy
from fermo.training.bench.evaluate import TEST_SEED
from fermo.training.bench.smoothing import BOUNDED, PLAIN, TUNED, UNITS, Smoothing, choose, compare, measure
from fermo.training.reproduce.pooled import over_seeds
from fermo.training.reproduce.registry import Number

TASK = "fermo/CartPole-v0"
CONFIG = Smoothing(
    task=TASK, noise=0.5, weights={"caps": (1.0,), "lcp": (0.1, 100.0), "lipsnet": (0.1,)}, gammas=(3.0, 0.1),
    episodes=4, recoveries=8, trials=6, validation=6, steps=300, rounds=2,
)  # fmt: skip


def test_chosen_is_the_strongest_that_costs_little() -> None:
    assert choose(0.8, {1.0: 0.8, 3.0: 0.77, 10.0: 0.7}, 0.05) == 3.0
    assert choose(0.8, {1.0: 0.8, 3.0: 0.1, 10.0: 0.79}, 0.05) == 10.0
    assert choose(0.8, {12.0: 0.8, 7.0: 0.76}, 0.05) == 7.0  # a gamma is stronger where it is smaller


def test_where_everything_costs_much_the_gentlest_is_chosen() -> None:
    assert choose(0.8, {1.0: 0.3, 3.0: 0.2}, 0.05) == 1.0
    assert choose(0.8, {12.0: 0.3, 7.0: 0.4}, 0.05) == 12.0


def test_a_linear_policy_under_sensor_noise_fluctuates_by_its_slope() -> None:
    task, gain, noise = make_task(TASK), 3.0, 0.1
    policy: Any = make_policy("mlp_bc", task.spec, config_class("mlp_bc")(hidden=(2,), activation="relu"))
    with torch.no_grad():  # u = gain * x, whose hidden unit is always on
        first, _, last = policy.network
        values = ((first.weight, 0.0), (first.bias, 10.0), (last.weight, 0.0), (last.bias, -10.0 * gain))
        for tensor, value in values:
            tensor.fill_(value)
        first.weight[0, 0], last.weight[0, 0] = 1.0, gain
    scale = torch.tensor([2.0])
    clean = measure(task, policy, scale, noise=0.0, trials=64, seed=TEST_SEED)["fluctuation"]
    found = measure(task, policy, scale, noise=noise, trials=64, seed=TEST_SEED)["fluctuation"]
    expected = gain * noise * 2 / torch.pi**0.5 / 2.0  # the mean size of the difference of two normals, in scales
    assert found.value == pytest.approx(expected, rel=0.1) and clean.value < 0.1 * expected
    assert found.low is not None and found.high is not None and found.low <= found.value <= found.high


@pytest.mark.parametrize(("wrong", "message"), [
    ({"weights": {"lcp": (1.0, 0.1)}}, "weights of lcp must be positive and increasing"),
    ({"gammas": (1.0, 2.0)}, "gammas must be positive and decreasing"),
    ({"gammas": ()}, "gammas must be positive and decreasing"),
])  # fmt: skip
def test_strengths_go_from_gentle_to_strong(wrong: dict, message: str) -> None:
    with pytest.raises(FermoError, match=message):
        Smoothing(**{**vars(CONFIG), **wrong})


def test_seeds_are_pooled_by_their_mean_where_all_have_the_number() -> None:
    values = (1.0, 2.0, 6.0)
    results = {f"cart/seed={seed}": {"one": Number(value=value, unit="s")} for seed, value in enumerate(values)}
    results["cart/seed=0"] |= {"two": Number(value=5.0)}
    results["pole/seed=0"] = {"one": Number(value=100.0, unit="s")}
    pooled = over_seeds(results, "cart")
    assert set(pooled) == {"one"}
    assert (pooled["one"].value, pooled["one"].unit, pooled["one"].trials) == (3.0, "s", 3)
    assert pooled["one"].low == 1.0 and pooled["one"].high == 6.0


@pytest.mark.slow
def test_a_comparison_measures_every_policy_and_goes_on_from_its_folder(tmp_path: Path) -> None:
    numbers = compare(CONFIG, tmp_path, 0)
    names = (PLAIN, BOUNDED, TUNED, *CONFIG.weights)
    measures = {f"{name}/{key}/{condition}" for name in names for key in ("success", *UNITS)
                for condition in ("clean", "noise")}  # fmt: skip
    assert set(numbers) == measures | {f"{name}/time" for name in names} | {f"{name}/strength" for name in names[2:]}
    assert numbers["lcp/strength"].value == 0.1  # at 100 nothing is left of the policy
    assert numbers[f"{TUNED}/strength"].value == 3.0
    assert numbers[f"{PLAIN}/time"].value == 1.0
    again = compare(CONFIG, tmp_path, 0)
    assert {key: number for key, number in again.items() if "time" not in key} == {
        key: number for key, number in numbers.items() if "time" not in key
    }
