"""``lipschitz-trade-off``: scores of cloned policies, clean and attacked, as their Lipschitz bound sweeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fermo.errors import FermoError
from fermo.training.reproduce.pooled import over_seeds, seeds_and_all
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace, register

if TYPE_CHECKING:
    from fermo.training.bench.bound_sweep import BoundSweep

_SEEDS = {Budget.SMOKE: (0,), Budget.SMALL: (0, 1, 2), Budget.PAPER: (0, 1, 2, 3, 4)}
TASKS = ("CartPole-v0", "Pendulum-v0", "Hopper-v5", "HalfCheetah-v5", "SO101-PickCube-v0")
_LEGGED = {"episodes": 16, "recoveries": 16, "trials": 32, "validation": 16, "steps": 5_000}


def _sweeps() -> dict[str, BoundSweep]:
    from fermo.training.bench.bound_sweep import BoundSweep

    sweeps = (
        BoundSweep(task="fermo/CartPole-v0", gammas=(0.6, 0.8, 1.0, 1.5, 3.0),
                   severities=(0.5, 0.8, 1.0, 1.2, 1.4, 1.6)),
        BoundSweep(task="fermo/Pendulum-v0", gammas=(5.0, 6.0, 8.0, 12.0, 20.0),
                   severities=(0.05, 0.1, 0.12, 0.15, 0.18, 0.2)),
        BoundSweep(task="fermo/Hopper-v5", gammas=(1.5, 2.0, 4.0), severities=(0.03, 0.05, 0.07, 0.1), **_LEGGED),
        BoundSweep(task="fermo/HalfCheetah-v5", gammas=(2.0, 4.0, 8.0), severities=(0.05, 0.1, 0.2, 0.3), **_LEGGED),
        BoundSweep(task="fermo/SO101-PickCube-v0", gammas=(8.5, 10.0, 12.0, 15.0),
                   severities=(0.05, 0.055, 0.06, 0.07), episodes=256, recoveries=768),
    )  # fmt: skip
    return {sweep.task.removeprefix("fermo/"): sweep for sweep in sweeps}


def _cells(budget: Budget) -> Sequence[Cell]:
    return [
        cell for task in (TASKS[:1] if budget is Budget.SMOKE else TASKS)
        for cell in seeds_and_all(task.lower(), _SEEDS[budget], _sweep(task, budget), _pooled)
    ]  # fmt: skip


def _sweep(task: str, budget: Budget) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """Demonstrations, policies and scores of one seed."""
        from fermo.training.bench.bound_sweep import sweep

        config = _sweeps()[task]
        if budget is Budget.SMOKE:
            config = replace(config, gammas=(1.0, 3.0), severities=(0.5, 2.0), episodes=8, recoveries=24, trials=16,
                             validation=8, steps=300, adversary_iterations=2)  # fmt: skip
        if budget is Budget.PAPER:
            config = replace(config, trials=512, validation=256, adversary_iterations=600)
        return sweep(config, work.folder, work.seed)

    return work


def _pooled(results: Results, slug: str) -> Mapping[str, Number]:
    """Means over the seeds of what every seed has, and the least that any of them kept."""
    kept = [numbers["kept"].value for cell, numbers in results.items() if cell.startswith(f"{slug}/seed=")]
    return over_seeds(results, slug) | {"least kept": Number(value=min(kept))}


def _check(results: Results) -> None:
    """No slope that a search found exceeds its certificate."""
    for cell, numbers in results.items():
        for name in (key.removesuffix("/slope") for key in numbers if key.endswith("/slope")):
            if "seed=" in cell and numbers[f"{name}/slope"].value > numbers[f"{name}/lipschitz"].value * (1 + 1e-4):
                raise FermoError(f"{cell}: {name} has a slope above its certificate: report this as a bug")


_MEASURES = (
    ("mlp/clean", "unconstrained, clean"), ("kept by mlp", "share it keeps under the strongest attack"),
    ("gamma", "bound chosen on validation starts"), ("severity", "severity chosen there"),
    ("kept", "share the bounded policy keeps there"),
)  # fmt: skip

LIPSCHITZ_TRADE_OFF = register(
    Reproduction(
        name="lipschitz-trade-off",
        title="What a Lipschitz bound costs and buys: cloned policies under attack, by bound",
        cells=_cells,
        rows=tuple(
            Row(cell=f"{task.lower()}/all", number=number, label=f"{task}: {label}")
            for task in TASKS for number, label in _MEASURES
        ),
        check=_check,
    )
)  # fmt: skip
