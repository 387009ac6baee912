"""The comparison of bounds measures every method that holds, and its check refuses what cannot be."""

from dataclasses import replace

import pytest
import torch

from fermo.cli.reproductions.lipschitz_bounds import LIPSCHITZ_BOUNDS
from fermo.errors import FermoError
from fermo.policies.certificates.certificate import LIPSDP
from fermo.training import certify_bench
from fermo.training.certify_bench import FOUND, cart_pole_clone, compare, random_network, trained_network
from fermo.training.reproduce.registry import Budget, Number

METHODS = {"relu": {"LipSDP-neuron", "LipLT", "ECLipsE-Fast", "product of spectral norms"}}
METHODS["groupsort"] = {"LipSDP-neuron", "product of spectral norms"}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(certify_bench, "STEPS", 10)
    monkeypatch.setattr(certify_bench, "RESTARTS", 16)


@pytest.mark.parametrize("activation", METHODS)
def test_every_method_that_holds_is_measured_and_in_order(activation: str):
    numbers = compare(random_network((4, 16, 16, 2), activation, seed=1), activation, seed=1)
    assert {name for name, number in numbers.items() if number.unit == "1"} == METHODS[activation] | {FOUND}
    for name in METHODS[activation]:
        assert numbers[f"{name}, time"].value > 0 and numbers[f"{name}, memory"].value > 0
    assert numbers["check, time"].value < numbers["LipSDP-neuron, time"].value
    LIPSCHITZ_BOUNDS.check({"cell": numbers})


def test_the_check_refuses_a_slope_above_the_bound_and_a_bound_above_another():
    right = {FOUND: Number(value=1.0), "LipSDP-neuron": Number(value=2.0), "LipLT": Number(value=3.0)}
    LIPSCHITZ_BOUNDS.check({"cell": right})
    with pytest.raises(FermoError, match=r"a slope of 2\.1 refutes"):
        LIPSCHITZ_BOUNDS.check({"cell": {**right, FOUND: replace(right[FOUND], value=2.1)}})
    with pytest.raises(FermoError, match=r"LipLT gives 1\.9"):
        LIPSCHITZ_BOUNDS.check({"cell": {**right, "LipLT": replace(right["LipLT"], value=1.9)}})


def test_training_moves_the_network_toward_its_teacher_and_draws_from_its_seed_alone():
    first, again, longer = (trained_network((4, 16, 16, 2), "relu", steps, seed=0) for steps in (20, 20, 60))
    weights = [network[0].get_parameter("weight") for network in (first, again, longer)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert weights[0].dtype == torch.float64


def test_every_row_of_the_table_is_a_number_that_some_cell_measures():
    cells = {cell.name: cell for cell in LIPSCHITZ_BOUNDS.cells(Budget.SMALL)}
    assert len(cells) == 16 + 7
    assert {row.cell for row in LIPSCHITZ_BOUNDS.rows} <= cells.keys()


@pytest.mark.slow
def test_a_cloned_sandwich_uses_the_slope_it_is_allowed(monkeypatch):
    monkeypatch.setattr(certify_bench, "STEPS", 200)
    network, states = cart_pole_clone(20.0, 1_000, 0)
    numbers = compare(network, "relu", seed=0, points=states[:: len(states) // 64])
    assert 0.95 * 20.0 <= numbers[FOUND].value <= numbers[LIPSDP].value <= 20.0 * (1 + 1e-5)
