"""What a Lipschitz bound costs and buys on an unstable plant: CartPole over gamma."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from fermo.errors import FermoError
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace, register

TASK = "fermo/CartPole-v0"

ZETA = 1.0
"""Measurement error of the attack: l2, in standard deviations of the training observations."""

_GAMMAS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0)
_UNBOUNDED = "mlp_bc"
_SEEDS = {Budget.SMOKE: 1, Budget.SMALL: 3, Budget.PAPER: 10}
_STEPS = {Budget.SMOKE: 300, Budget.SMALL: 3_000, Budget.PAPER: 10_000}
_EPISODES = {Budget.SMOKE: 8, Budget.SMALL: 64, Budget.PAPER: 256}
_NUMBERS = {
    "radius": "spectral radius", "cost": "cost", "attacked cost": "cost under attack", "falls": "falls under attack",
    "largest error": "largest certified measurement error",
}  # fmt: skip


def _policies(budget: Budget) -> Sequence[str]:
    gammas = (1.0,) if budget is Budget.SMOKE else _GAMMAS
    return [*(f"gamma={gamma:g}" for gamma in gammas), _UNBOUNDED]


def _cells(budget: Budget) -> Sequence[Cell]:
    cells = []
    for policy in _policies(budget):
        work = _measured(policy, _EPISODES[budget])
        cells += [Cell(name=f"{policy}/seed={seed}", seed=seed, steps=_STEPS[budget], work=work)
                  for seed in range(_SEEDS[budget])]  # fmt: skip
        cells.append(Cell(name=f"{policy}/all", seed=0, steps=0, work=_pooled(policy)))
    return cells


def _measured(policy: str, episodes: int) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """Demonstrations, a policy and its trade-off, for one seed."""
        from fermo.envs.registry import make_task
        from fermo.training.demos.dataset import record_dataset
        from fermo.training.fit import fit
        from fermo.training.guarantee.policy_bound import PolicyBound
        from fermo.training.guarantee.trade_off import trade_off
        from fermo.training.recipes import loop_recipe, policy_recipe

        data = work.folder / "dataset"
        if not data.exists():
            record_dataset(TASK, data, episodes=episodes // 4, recoveries=3 * episodes // 4, seed=0)
        family = _UNBOUNDED if policy == _UNBOUNDED else "lipschitz_bc"
        gamma = {} if policy == _UNBOUNDED else {"gamma": float(policy.removeprefix("gamma="))}
        made = fit(
            data, work.folder / "train", task=TASK, family=family,
            policy=policy_recipe(TASK, family, seed=work.seed, **gamma),
            loop=loop_recipe(TASK, family, seed=work.seed, steps=work.steps),
        )  # fmt: skip
        bound = PolicyBound.of_policy(made)
        found = trade_off(make_task(TASK), made, bound, ZETA, episodes=2 * episodes)
        numbers = {"rmse": found.rmse, "cost": found.cost, "attacked cost": found.attacked_cost,
                   "largest error": found.largest_zeta, "lipschitz": bound.lipschitz}  # fmt: skip
        numbers |= {} if found.radius is None else {"radius": found.radius}
        falls = Number.rate(round(found.attacked_ended * 2 * episodes), 2 * episodes)
        return {name: Number(value=value) for name, value in numbers.items()} | {"falls": falls}

    return work


def _pooled(policy: str) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """Means over the training seeds with Student's interval; falls of all seeds together."""
        import numpy as np
        from scipy.stats import t

        seeds = [numbers for cell, numbers in work.results.items() if cell.startswith(f"{policy}/seed=")]
        pooled = {}
        for name in set.intersection(*(set(numbers) for numbers in seeds)):
            values = np.array([numbers[name].value for numbers in seeds])
            half = t.ppf(0.975, len(seeds) - 1) * values.std(ddof=1) / np.sqrt(len(seeds)) if len(seeds) > 1 else None
            mean = float(values.mean())
            pooled[name] = Number(value=mean, low=None if half is None else mean - float(half),
                                  high=None if half is None else mean + float(half))  # fmt: skip
        trials = [numbers["falls"].trials or 0 for numbers in seeds]
        fallen = [round(numbers["falls"].value * n) for numbers, n in zip(seeds, trials, strict=True)]
        return pooled | {"falls": Number.rate(sum(fallen), sum(trials))}

    return work


def _check(results: Results) -> None:
    """Every gamma was kept, and the unbounded policy stands when nothing attacks it."""
    for cell, numbers in results.items():
        if "/seed=" not in cell:
            continue
        if cell.startswith("gamma=") and numbers["lipschitz"].value > 1.001 * float(cell[6:].partition("/")[0]):
            raise FermoError(f"the certified slope in {cell} is above its gamma; see its checkpoint")
        if cell.startswith(_UNBOUNDED) and numbers["cost"].value > 100:
            raise FermoError(f"the unbounded policy in {cell} does not balance the pole; see its run folder")


CART_POLE_TRADE_OFF = register(
    Reproduction(
        name="cart-pole-trade-off",
        title="CartPole: what a bound on the policy's slope costs and buys, in standard deviations",
        cells=_cells,
        rows=tuple(
            Row(cell=f"{policy}/all", number=number, label=f"{label}, {policy.replace('=', ' ')}")
            for number, label in _NUMBERS.items()
            for policy in _policies(Budget.SMALL)
        ),
        check=_check,
    )
)  # fmt: skip
