"""``lipschitz-smoothness``: a bounded slope beside CAPS, L2C2, LCP and LipsNet, clean and under sensor noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fermo.errors import FermoError
from fermo.training.reproduce.pooled import seeds_and_all
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace, register

if TYPE_CHECKING:
    from fermo.training.bench.smoothing import Smoothing

POLICIES = {
    "mlp_bc": "plain clone", "caps": "CAPS", "l2c2": "L2C2", "lcp": "LCP", "lipsnet": "LipsNet",
    "lipschitz_bc": "Lipschitz BC by recipe", "lipschitz_bc_tuned": "Lipschitz BC tuned",
}  # fmt: skip
TASKS = ("CartPole-v0", "SO101-PickCube-v0")
_SEEDS = {Budget.SMOKE: (0,), Budget.SMALL: (0, 1, 2), Budget.PAPER: (0, 1, 2, 3, 4)}


def _comparisons() -> dict[str, Smoothing]:
    from fermo.training.bench.smoothing import Smoothing

    comparisons = (
        Smoothing(
            task="fermo/CartPole-v0", noise=0.5, gammas=(1.25, 0.8, 0.5),
            weights={"caps": (3.0, 10.0, 30.0), "l2c2": (30.0, 100.0, 300.0), "lcp": (0.2, 0.5, 1.0),
                     "lipsnet": (0.01, 0.1, 1.0)},
        ),
        Smoothing(
            task="fermo/SO101-PickCube-v0", noise=0.03, gammas=(12.0, 10.0, 7.0), episodes=256, recoveries=768,
            weights={"caps": (0.03, 0.1, 0.3), "l2c2": (0.1, 0.3, 1.0), "lcp": (1e-4, 3e-4, 1e-3),
                     "lipsnet": (1e-5, 1e-4, 1e-3)},
        ),
    )  # fmt: skip
    return {comparison.task.removeprefix("fermo/"): comparison for comparison in comparisons}


def _cells(budget: Budget) -> Sequence[Cell]:
    return [
        cell for task in (TASKS[:1] if budget is Budget.SMOKE else TASKS)
        for cell in seeds_and_all(task.lower(), _SEEDS[budget], _compared(task, budget))
    ]  # fmt: skip


def _compared(task: str, budget: Budget) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """Demonstrations, policies and measures of one seed."""
        from fermo.training.bench.smoothing import compare

        config = _comparisons()[task]
        if budget is Budget.SMOKE:
            config = replace(config, weights={name: tried[:2] for name, tried in config.weights.items()},
                             gammas=config.gammas[:2], episodes=8, recoveries=24, trials=16, validation=8, steps=300,
                             rounds=5)  # fmt: skip
        if budget is Budget.PAPER:
            config = replace(config, trials=1024, validation=256)
        return compare(config, work.folder, work.seed)

    return work


def _check(results: Results) -> None:
    """The plain clone does its task, and sensor noise reaches its actions."""
    for cell, numbers in results.items():
        if numbers["mlp_bc/success/clean"].value < 0.5:
            raise FermoError(f"the plain clone in {cell} fails more often than not; see its run folder")
        clean, noisy = (numbers[f"mlp_bc/fluctuation/{condition}"].value for condition in ("clean", "noise"))
        if noisy <= clean:
            raise FermoError(f"the plain clone in {cell} is no rougher under noise: {noisy:.3g} against {clean:.3g}")


_MEASURES = (
    ("success/clean", "success"), ("success/noise", "success under noise"),
    ("fluctuation/clean", "fluctuation"), ("fluctuation/noise", "fluctuation under noise"),
)  # fmt: skip

LIPSCHITZ_SMOOTHNESS = register(
    Reproduction(
        name="lipschitz-smoothness",
        title="Smooth actions: a bounded slope beside CAPS, L2C2, LCP and LipsNet",
        cells=_cells,
        rows=tuple(
            Row(cell=f"{task.lower()}/all", number=f"{policy}/{number}", label=f"{task}: {title}, {label}")
            for task in TASKS for number, label in _MEASURES for policy, title in POLICIES.items()
        ),
        check=_check,
    )
)  # fmt: skip
