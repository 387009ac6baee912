"""``beso-distillation``: what one step costs, untrained and distilled, at BlockPush by goals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fermo.errors import FermoError
from fermo.training.reproduce.pooled import seeds_and_all
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace, register

if TYPE_CHECKING:
    from fermo.policies.beso.policy import BesoPolicy
    from fermo.training.bench.goal_methods import Method
    from fermo.training.data.reader import Dataset
    from fermo.training.loops.distill_config import DistillConfig

TEACHER_STEPS, STUDENT_STEPS = (1, 2, 3, 10), (1, 2)
_SEEDS = {Budget.SMOKE: (0,), Budget.SMALL: (0, 1, 2), Budget.PAPER: (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)}
_DEMONSTRATIONS = {Budget.SMOKE: (12, 4), Budget.SMALL: (1000, 100), Budget.PAPER: (1000, 100)}
_STEPS = {Budget.SMOKE: (300, 200), Budget.SMALL: (12_000, 12_000), Budget.PAPER: (60_000, 60_000)}
_ROLLOUTS = {Budget.SMOKE: 16, Budget.SMALL: 100, Budget.PAPER: 100}
_SAMPLES = 1_000
_MEASURES = {"result": "result", "remaining": "share of the way that remains", "entropy": "entropy",
             "distance": "energy distance of its actions from the demonstrated ones"}  # fmt: skip


def _cells(budget: Budget) -> Sequence[Cell]:
    data = Cell(name="data", seed=0, steps=0, work=_recorded(budget))
    return [data, *seeds_and_all("policies", _SEEDS[budget], _distilled(budget))]


def _recorded(budget: Budget) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """The demonstrations, and what random actions are worth."""
        from fermo.envs.tasks.block_push import BlockPush
        from fermo.training.bench.evaluate import TEST_SEED
        from fermo.training.bench.goal_figures import goal_figures
        from fermo.training.bench.goal_methods import RandomActions, record_goal_data
        from fermo.training.data.reader import Dataset

        training, held_out = _DEMONSTRATIONS[budget]
        record_goal_data(work.folder, training=training, held_out=held_out, seed=work.seed)
        task = BlockPush()
        scores = goal_figures(RandomActions(task, work.seed), task, Dataset.open(work.folder / "training"),
                              rollouts=_ROLLOUTS[budget], seed=TEST_SEED)  # fmt: skip
        return {f"random {name}": scores[name] for name in ("result", "remaining")}

    return work


def _distilled(budget: Budget) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """A teacher, its student, and both at every number of steps."""
        from fermo.policies.beso.policy import BesoPolicy
        from fermo.training.bench.goal_methods import TASK, with_sampling_steps
        from fermo.training.data.reader import Dataset
        from fermo.training.distill import distill
        from fermo.training.fit import fit

        data = work.folder.parents[1] / "data" / "training"
        method, loop = _method(budget), _loop(budget)
        teacher = fit(data, work.folder / "teacher", task=TASK, family="beso",
                      policy=replace(method.policy, seed=work.seed),
                      loop=replace(method.loop, seed=work.seed))  # fmt: skip
        student = distill(work.folder / "teacher" / "checkpoint", data, work.folder / "student",
                          loop=replace(loop, seed=work.seed))  # fmt: skip
        numbers = _losses(work, "teacher") | _losses(work, "student")
        dataset = Dataset.open(data)
        assert isinstance(teacher, BesoPolicy)
        for name, policy, counts in (("teacher", teacher, TEACHER_STEPS), ("student", student, STUDENT_STEPS)):
            for steps in counts:
                found = _scores(with_sampling_steps(policy, steps), dataset, budget, work.seed)
                numbers |= {f"{name} at {steps}/{key}": number for key, number in found.items()}
        return numbers

    return work


def _scores(policy: BesoPolicy, dataset: Dataset, budget: Budget, seed: int) -> dict[str, Number]:
    from fermo.envs.tasks.block_push import BlockPush
    from fermo.training.bench.evaluate import TEST_SEED
    from fermo.training.bench.goal_figures import goal_figures
    from fermo.training.bench.sampled_actions import energy_distance, sampled_actions

    distance = energy_distance(*sampled_actions(policy, dataset, samples=_SAMPLES, seed=seed))
    scores = goal_figures(policy, BlockPush(), dataset, rollouts=_ROLLOUTS[budget], seed=TEST_SEED + seed)
    return {name: scores[name] for name in _MEASURES if name in scores} | {"distance": Number(value=distance)}


def _losses(work: Workspace, name: str) -> dict[str, Number]:
    from fermo.training.run_folder import RunFolder

    (_, first), *_, (_, last) = RunFolder(work.folder / name).scalars()["train/loss"]
    return {f"{name} first loss": Number(value=first), f"{name} last loss": Number(value=last)}


def _method(budget: Budget) -> Method:
    """BESO of ``beso-block-push``."""
    from fermo.cli.reproductions.beso_block_push import method

    made = method("beso", budget)
    return replace(made, loop=replace(made.loop, steps=_STEPS[budget][0]))


def _loop(budget: Budget) -> DistillConfig:
    from fermo.training.loops.distill_config import DistillConfig

    made = DistillConfig(steps=_STEPS[budget][1], batch_size=256, validation=0.05)
    return replace(made, batch_size=1024, lr=1e-4, device="cuda") if budget is Budget.PAPER else made


def _check(results: Results) -> None:
    """Both losses fell, and the student brings blocks nearer to where they shall go than random actions do."""
    by_chance = results["data"]["random remaining"].value
    for cell, numbers in results.items():
        if "/seed=" not in cell:
            continue
        for name in ("teacher", "student"):
            if numbers[f"{name} last loss"].value >= numbers[f"{name} first loss"].value:
                raise FermoError(f"the {name}'s loss did not fall in {cell}; see its folder")
        if numbers["student at 1/remaining"].value >= by_chance:
            raise FermoError(f"the student in {cell} brings blocks no nearer than random actions")


BESO_DISTILLATION = register(
    Reproduction(
        name="beso-distillation",
        title="BlockPush by goals in one step: a diffusion policy, and the consistency policy distilled from it",
        cells=_cells,
        rows=tuple(
            Row(cell="policies/all", number=f"{name} at {steps}/{measure}", label=f"{name}, {steps} NFE: {label}")
            for measure, label in _MEASURES.items()
            for name, counts in (("teacher", TEACHER_STEPS), ("student", STUDENT_STEPS))
            for steps in counts
        ),
        check=_check,
    )
)  # fmt: skip
