"""``beso-block-push``: BESO and what it is judged against, on the same scripted demonstrations of BlockPush."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fermo.errors import FermoError
from fermo.training.reproduce.pooled import seeds_and_all
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace, register

if TYPE_CHECKING:
    from fermo.policies.goal_bc.config import HeadName
    from fermo.training.bench.goal_methods import GoalTrials, Method

METHODS = {
    "beso": "BESO", "gcbc": "GCBC, transformer", "gcbc-mlp": "GCBC, perceptron", "gmm": "GMM", "c-bet": "C-BeT",
    "ddpm": "DDPM, 100 steps", "ddim": "DDIM, 10 steps", "faithful": "BESO as released",
}  # fmt: skip
_SEEDS = {Budget.SMOKE: (0,), Budget.SMALL: (0, 1, 2), Budget.PAPER: (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)}
_TRAINED = {Budget.SMOKE: ("beso", "gcbc"), Budget.SMALL: ("beso", "gcbc", "ddpm"), Budget.PAPER: tuple(METHODS)}
_DEMONSTRATIONS = {Budget.SMOKE: (12, 4), Budget.SMALL: (1000, 100), Budget.PAPER: (1000, 100)}


def _cells(budget: Budget) -> Sequence[Cell]:
    data = Cell(name="data", seed=0, steps=0, work=_recorded(budget))
    return [data, *(cell for name in _TRAINED[budget]
                    for cell in seeds_and_all(name, _SEEDS[budget], _compared(name, budget)))]  # fmt: skip


def _recorded(budget: Budget) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """The demonstrations, which all cells share, and what random actions are worth."""
        from fermo.envs.tasks.block_push import BlockPush
        from fermo.training.bench.goal_methods import RandomActions, record_goal_data, score_method

        training, held_out = _DEMONSTRATIONS[budget]
        record_goal_data(work.folder, training=training, held_out=held_out, seed=work.seed)
        scores = score_method(RandomActions(BlockPush(), work.seed), work.folder, _trials(budget), work.seed)
        chance = {f"random {name}": number for name, number in scores.items()}
        return chance | {"demonstrations": Number(value=float(training))}

    return work


def _compared(name: str, budget: Budget) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """One method with one seed of its training."""
        from fermo.training.bench.goal_methods import compare_method

        trials = _trials(budget)
        if name == "beso":
            trials = replace(trials, evaluations=(1, 2) if budget is Budget.SMOKE else (1, 2, 10, 50))
        return compare_method(method(name, budget), _data(work), work.folder, trials, work.seed)

    return work


def _data(work: Workspace) -> Path:
    return work.folder.parents[1] / "data"


def _trials(budget: Budget) -> GoalTrials:
    from fermo.training.bench.goal_methods import GoalTrials

    return GoalTrials(rollouts=16 if budget is Budget.SMOKE else 100)


def method(name: str, budget: Budget) -> Method:
    """All share window, goals, scalings and size; below the published budget the size is smaller for all."""
    from fermo.policies.beso.presets import faithful
    from fermo.policies.windowed.config import TransformerConfig
    from fermo.training.bench.goal_methods import Method
    from fermo.training.loops.bc_config import BcConfig

    loop = BcConfig(steps=60_000, batch_size=1024, lr=1e-4, warmup_steps=0, ema_decay=0.999, validation=0.05,
                    device="cuda")  # fmt: skip
    if name == "faithful":
        return Method(family="beso", policy=faithful("block_push"), loop=replace(loop, lr_decay=0.99))
    policy = _policy(name)
    family = "goal_bc" if name in ("gcbc", "gcbc-mlp", "gmm", "c-bet") else "beso"
    if budget is Budget.PAPER:
        return Method(family=family, policy=policy, loop=loop)
    part = "network" if family == "beso" else "transformer"
    policy = replace(policy, **{part: TransformerConfig(layers=3, heads=4, width=96)})
    loop = replace(loop, steps=300 if budget is Budget.SMOKE else 12_000, batch_size=256, lr=1e-3, warmup_steps=100,
                   device="cpu")  # fmt: skip
    return Method(family=family, policy=policy, loop=loop)


def _policy(name: str) -> Any:
    from fermo.envs.tasks.block_push import GOAL_SIGNALS
    from fermo.policies.beso.config import DdpmConfig
    from fermo.policies.beso.presets import default
    from fermo.policies.goal_bc.presets import baseline

    if name in ("beso", "ddpm", "ddim"):
        policy = default("block_push", goal_signals=GOAL_SIGNALS)
        steps = DdpmConfig() if name == "ddpm" else DdpmConfig(sampler="ddim", steps=10)
        return policy if name == "beso" else replace(policy, objective="ddpm", ddpm=steps)
    heads: dict[str, HeadName] = {"gmm": "mixture", "c-bet": "behavior_transformer"}
    policy = baseline("block_push", heads.get(name, "regression"), goal_signals=GOAL_SIGNALS)
    return replace(policy, backbone="perceptron") if name == "gcbc-mlp" else policy


def _check(results: Results) -> None:
    """The losses fell, and every method brings blocks nearer to where they shall go than random actions do.

    From the benchmark's thousand demonstrations it must learn to achieve more of the wanted pairs, too.
    """
    whole = results["data"]["demonstrations"].value >= _DEMONSTRATIONS[Budget.SMALL][0]
    by_chance = {name: results["data"][f"random {name}"].value for name in ("result", "remaining")}
    for cell, numbers in results.items():
        if "last loss" not in numbers:
            continue
        if numbers["last loss"].value >= numbers["first loss"].value:
            raise FermoError(f"the loss did not fall in {cell}; see its folder")
        if numbers["remaining"].value >= by_chance["remaining"]:
            raise FermoError(f"{cell} brings blocks no nearer than random actions: {numbers['remaining'].value:.2f} of "
                             "their way remain")  # fmt: skip
        if whole and numbers["result"].value <= by_chance["result"]:
            raise FermoError(f"{cell} does no better than random actions: {numbers['result'].value:.2f}")


_MEASURES = (
    ("result", "result"), ("reward", "reward"), ("result held out", "result, goals of others"), ("entropy", "entropy"),
    ("remaining", "share of the way that remains"),
)  # fmt: skip
_SAMPLING = tuple((f"result at {steps}", f"result in {steps} steps") for steps in (1, 2, 10, 50))

BESO_BLOCK_PUSH = register(
    Reproduction(
        name="beso-block-push",
        title="BlockPush by goals: BESO and its rivals on the same demonstrations",
        cells=_cells,
        rows=tuple(
            Row(cell=f"{name}/all", number=number, label=f"{title}: {label}")
            for name, title in METHODS.items()
            for number, label in (_MEASURES + _SAMPLING if name == "beso" else _MEASURES)
        ),
        check=_check,
    )
)  # fmt: skip
