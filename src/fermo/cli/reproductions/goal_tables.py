"""Methods that are told goals, in one table a benchmark: what ``beso-block-push`` and ``beso-kitchen`` share.

All learn from the same demonstrations, with the same window, goals and scalings, and are asked for the same goals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fermo.errors import FermoError
from fermo.policies.windowed.config import PerceptronConfig, TransformerConfig
from fermo.training.loops.bc_config import BcConfig
from fermo.training.reproduce.pooled import seeds_and_all
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace

if TYPE_CHECKING:
    from fermo.policies.goal_bc.config import HeadName
    from fermo.training.bench.goal_methods import GoalTrials, Method

METHODS = {
    "beso": "BESO", "gcbc": "GCBC", "gcbc-mlp": "GCBC, perceptron", "gmm": "GMM", "c-bet": "C-BeT",
    "ddpm": "DDPM, 100 steps", "ddim": "DDIM, 10 steps", "faithful": "BESO as released",
}  # fmt: skip
MEASURES = (("result", "result"), ("reward", "reward"), ("result held out", "result, goals of others"),
            ("entropy", "entropy"), ("remaining", "share of the way that remains"))  # fmt: skip
"""Numbers of every benchmark, and their titles."""
_SAMPLING = tuple((f"result at {steps}", f"result in {steps} steps") for steps in (1, 2, 10, 50))
PUBLISHED = BcConfig(batch_size=1024, lr=1e-4, warmup_steps=0, ema_decay=0.999, validation=0.05, device="cuda")
"""What the published trainings share; their number of steps is the benchmark's."""
REDUCED = replace(PUBLISHED, batch_size=256, lr=1e-3, warmup_steps=100, device="cpu")
"""The same where two processor cores do it."""


@dataclass(frozen=True, kw_only=True)
class GoalTable:
    """A benchmark by goals, and what is spent on it.

    Attributes:
        name: Of the reproduction.
        title: For people.
        task: Full name; it is recorded by ``fermo record`` and scored by ``fermo eval --goals``.
        preset: The benchmark's name in `fermo.policies.beso.presets`.
        goal_signals: Observations that make a goal; all when empty.
        demonstrations: How many are trained on in full, and how many others give goals; the smoke budget has 12 and 4.
        published: Training of the published budget.
        small: Methods of the small budget; the smoke budget has the first two, the published one has all.
        seeds: How often the small budget trains each; the smoke budget does once, the published one ten times.
        recoveries: How many of the small budget's demonstrations are disturbed ones.
        reduced: Training of the small budget; the smoke budget ends it after 300 steps.
        network: Of every method below the published budget.
        settings: Of every method's policy below the published budget, beside the network.
        ends: Share of goals that are ends of episodes in training below the published budget; always so in a test.
        measures: Numbers beside `MEASURES`, and their titles.
    """

    name: str
    title: str
    task: str
    preset: str
    goal_signals: tuple[str, ...] = ()
    demonstrations: tuple[int, int]
    published: BcConfig
    small: tuple[str, ...] = ("beso", "gcbc", "ddpm")
    seeds: int = 3
    recoveries: int = 0
    reduced: BcConfig
    network: TransformerConfig | PerceptronConfig
    settings: Mapping[str, Any] = field(default_factory=dict)
    ends: float = 0.0
    measures: tuple[tuple[str, str], ...] = ()

    def reproduction(self) -> Reproduction:
        """What `fermo reproduce` runs."""
        every = MEASURES + self.measures
        rows = (Row(cell=f"{name}/all", number=number, label=f"{title}: {label}") for name, title in METHODS.items()
                for number, label in (every + _SAMPLING if name == "beso" else every))  # fmt: skip
        return Reproduction(name=self.name, title=self.title, cells=self.cells, rows=tuple(rows), check=self.check)

    def cells(self, budget: Budget) -> Sequence[Cell]:
        """``data``, and a cell a method and seed."""
        methods, seeds = {Budget.SMOKE: (self.small[:2], 1), Budget.SMALL: (self.small, self.seeds),
                          Budget.PAPER: (tuple(METHODS), 10)}[budget]  # fmt: skip
        cells = [self.data(budget)]
        for name in methods:
            cells += seeds_and_all(name, tuple(range(seeds)), partial(self._compare, name, budget))
        return cells

    def data(self, budget: Budget) -> Cell:
        """``data``, the demonstrations that all others share."""
        return Cell(name="data", seed=0, steps=0, work=partial(self._record, budget))

    def _record(self, budget: Budget, work: Workspace) -> Mapping[str, Number]:
        """The demonstrations, which all cells share, and what random actions are worth."""
        from fermo.envs.registry import make_task
        from fermo.training.bench.goal_methods import RandomActions, record_goal_data, score_method

        training, held_out = (12, 4) if budget is Budget.SMOKE else self.demonstrations
        recoveries = self.recoveries if budget is Budget.SMALL else 0
        record_goal_data(self.task, work.folder, training=training, recoveries=recoveries, held_out=held_out,
                         seed=work.seed)  # fmt: skip
        random = RandomActions(make_task(self.task), work.seed)
        scores = score_method(random, self.task, work.folder, _trials(budget), work.seed)
        chance = {f"random {name}": number for name, number in scores.items()}
        return chance | {"demonstrations": Number(value=float(training))}

    def _compare(self, name: str, budget: Budget, work: Workspace) -> Mapping[str, Number]:
        """One method with one seed of its training."""
        from fermo.training.bench.goal_methods import compare_method

        trials = _trials(budget)
        if name == "beso":
            trials = replace(trials, evaluations=(1, 2) if budget is Budget.SMOKE else (1, 2, 10, 50))
        return compare_method(self.method(name, budget), self.task, _data(work), work.folder, trials, work.seed)

    def method(self, name: str, budget: Budget) -> Method:
        """One of `METHODS`; below the published budget it is smaller, and all are equally so."""
        from fermo.training.bench.goal_methods import Method

        family = "goal_bc" if name in ("gcbc", "gcbc-mlp", "gmm", "c-bet") else "beso"
        policy, loop = self._policy(name), self.published
        if budget is not Budget.PAPER:
            goal = replace(policy.goal, ends=self.ends)
            policy = replace(policy, goal=goal, **self._reduced_network(family), **self.settings)
            loop = replace(self.reduced, steps=300) if budget is Budget.SMOKE else self.reduced
        if name == "faithful":
            loop = replace(loop, lr_decay=0.99)
        return Method(family=family, policy=policy, loop=loop)

    def _reduced_network(self, family: str) -> dict[str, Any]:
        """Settings of a family's policy."""
        if isinstance(self.network, PerceptronConfig):
            return {"backbone": "perceptron", "perceptron": self.network}
        return {"network" if family == "beso" else "transformer": self.network}

    def _policy(self, name: str) -> Any:
        from fermo.policies.beso.config import DdpmConfig
        from fermo.policies.beso.presets import default, faithful
        from fermo.policies.goal_bc.presets import baseline

        if name == "faithful":
            return faithful(self.preset)
        if name in ("beso", "ddpm", "ddim"):
            policy = default(self.preset, goal_signals=self.goal_signals)
            steps = DdpmConfig() if name == "ddpm" else DdpmConfig(sampler="ddim", steps=10)
            return policy if name == "beso" else replace(policy, objective="ddpm", ddpm=steps)
        heads: dict[str, HeadName] = {"gmm": "mixture", "c-bet": "behavior_transformer"}
        policy = baseline(self.preset, heads.get(name, "regression"), goal_signals=self.goal_signals)
        return replace(policy, backbone="perceptron") if name == "gcbc-mlp" else policy

    def check(self, results: Results) -> None:
        """The losses fell, and every method brings things nearer to where they shall be than random actions do.

        From all of the benchmark's demonstrations it must learn to achieve more of what is wanted, too.
        """
        whole = results["data"]["demonstrations"].value >= self.demonstrations[0]
        by_chance = {name: results["data"][f"random {name}"].value for name in ("result", "remaining")}
        for cell, numbers in results.items():
            if "last loss" not in numbers:
                continue
            if numbers["last loss"].value >= numbers["first loss"].value:
                raise FermoError(f"the loss did not fall in {cell}; see its folder")
            if numbers["remaining"].value >= by_chance["remaining"]:
                raise FermoError(f"{cell} brings things no nearer to the goals than random actions: "
                                 f"{numbers['remaining'].value:.2f} of the way remain")  # fmt: skip
            if whole and numbers["result"].value <= by_chance["result"]:
                raise FermoError(f"{cell} does no better than random actions: {numbers['result'].value:.2f}")


def rollouts(budget: Budget) -> int:
    """Episodes of a score."""
    return 16 if budget is Budget.SMOKE else 100


def _trials(budget: Budget) -> GoalTrials:
    from fermo.training.bench.goal_methods import GoalTrials

    return GoalTrials(rollouts=rollouts(budget))


def _data(work: Workspace) -> Path:
    return work.folder.parents[1] / "data"
