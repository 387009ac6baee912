"""``lipschitz-bounds``: every bound on the same networks, beside the steepest slope that a search finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fermo.errors import FermoError
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace, register

_SIZES = {64: (4, 32, 32, 2), 128: (8, 64, 64, 2), 256: (14, 128, 128, 7), 512: (30, 256, 256, 7)}
_KINDS = (("relu", "random"), ("relu", "trained"), ("groupsort", "random"), ("groupsort", "trained"))
_NEURONS = {Budget.SMOKE: (64,), Budget.SMALL: tuple(_SIZES), Budget.PAPER: tuple(_SIZES)}
_SEEDS = {Budget.SMOKE: (0,), Budget.SMALL: (0,), Budget.PAPER: (0, 1, 2, 3, 4)}
_TRAINING_STEPS = 1_000
_ALPHAS = {Budget.SMOKE: (20.0,), Budget.SMALL: (5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0)}
_ALPHAS[Budget.PAPER] = _ALPHAS[Budget.SMALL]
_CLONING_STEPS = 3_000
_TIGHT = 0.95  # least share of a cloned sandwich's bound that a search must find
_FOUND, _LIPSDP = "steepest slope found", "LipSDP-neuron"
_HOLDING = {
    "relu": ("LipLT", "ECLipsE-Fast", "product of spectral norms"),
    "groupsort": ("product of spectral norms",),
}


def _name(activation: str, neurons: int, kind: str, seed: int) -> str:
    return f"{activation}/neurons={neurons}/{kind}/seed={seed}"


def _clone(alpha: float, seed: int) -> str:
    return f"sandwich/alpha={alpha:g}/seed={seed}"


def _cells(budget: Budget) -> Sequence[Cell]:
    clones = [
        Cell(name=_clone(alpha, seed), seed=seed, steps=_CLONING_STEPS, work=_cloned(alpha))
        for alpha in _ALPHAS[budget] for seed in _SEEDS[budget]
    ]  # fmt: skip
    return clones + [
        Cell(name=_name(activation, neurons, kind, seed), seed=seed, steps=_TRAINING_STEPS * (kind == "trained"),
             work=_compared(_SIZES[neurons], activation))
        for neurons in _NEURONS[budget] for activation, kind in _KINDS for seed in _SEEDS[budget]
    ]  # fmt: skip


def _compared(sizes: tuple[int, ...], activation: str):
    def work(work: Workspace) -> Mapping[str, Number]:
        """Bounds, seconds and memory of every method on one network."""
        from fermo.training.certify_bench import compare, random_network, trained_network

        if work.steps:
            network = trained_network(sizes, activation, work.steps, work.seed)
        else:
            network = random_network(sizes, activation, work.seed)
        return compare(network, activation, seed=work.seed)

    return work


def _cloned(alpha: float):
    def work(work: Workspace) -> Mapping[str, Number]:
        """The same of CartPole's regulator, cloned by a sandwich, from a start at its observations."""
        from fermo.training.certify_bench import RESTARTS, cart_pole_clone, compare

        network, states = cart_pole_clone(alpha, work.steps, work.seed)
        return compare(network, "relu", seed=work.seed, points=states[:: len(states) // RESTARTS])

    return work


def _check(results: Results) -> None:
    """No slope exceeds LipSDP's bound, and LipSDP's exceeds no other."""
    for cell, numbers in results.items():
        bounds = {name: number.value for name, number in numbers.items() if number.unit == "1"}
        found, tightest = bounds.pop(_FOUND), bounds[_LIPSDP]
        if found > tightest * (1 + 1e-6):
            raise FermoError(f"{cell}: a slope of {found:.6g} refutes the bound {tightest:.6g}")
        if cell.startswith("sandwich") and found < _TIGHT * tightest:
            raise FermoError(f"{cell}: the steepest slope found, {found:.6g}, is far below the bound {tightest:.6g}")
        for name, bound in bounds.items():
            if tightest > bound * (1 + 2e-6):
                raise FermoError(f"{cell}: {name} gives {bound:.6g}, less than LipSDP's {tightest:.6g}")


def _rows() -> list[Row]:
    rows = [
        Row(cell=_clone(alpha, 0), number=name, label=f"cart-pole sandwich 4-64-64-1, alpha {alpha:g}: {name}")
        for alpha in _ALPHAS[Budget.SMALL] for name in (_FOUND, _LIPSDP)
    ]  # fmt: skip
    for neurons, sizes in _SIZES.items():
        for activation, kind in _KINDS:
            network = f"{activation} {'-'.join(map(str, sizes))}, {kind}"
            cell, methods = _name(activation, neurons, kind, 0), _HOLDING[activation]
            shown = [_FOUND, _LIPSDP, *methods, f"{_LIPSDP}, time"]
            rows += [Row(cell=cell, number=name, label=f"{network}: {name}") for name in shown]
    return rows


LIPSCHITZ_BOUNDS = register(
    Reproduction(
        name="lipschitz-bounds",
        title="Lipschitz bounds of the same networks by every method, beside the steepest slope found",
        cells=_cells,
        rows=tuple(_rows()),
        check=_check,
    )
)
