"""``beso-distillation``: what one step costs, untrained and distilled, at BlockPush by goals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fermo.cli.reproductions.beso_block_push import TABLE
from fermo.cli.reproductions.goal_tables import rollouts
from fermo.errors import FermoError
from fermo.training.reproduce.pooled import seeds_and_all
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace, register

if TYPE_CHECKING:
    from fermo.policies.beso.policy import BesoPolicy
    from fermo.training.data.reader import Dataset
    from fermo.training.loops.distill_config import DistillConfig

TEACHER_STEPS, STUDENT_STEPS = (1, 3, 10), (1, 2)
_SEEDS = {Budget.SMOKE: (0,), Budget.SMALL: (0, 1), Budget.PAPER: (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)}
_STEPS = {Budget.SMOKE: 200, Budget.SMALL: 5_000, Budget.PAPER: 60_000}
_SAMPLES = 1_000
_MEASURES = {"result": "result", "remaining": "share of the way that remains", "entropy": "entropy",
             "distance": "energy distance of its actions from the demonstrated ones"}  # fmt: skip


def _cells(budget: Budget) -> Sequence[Cell]:
    return [TABLE.data(budget), *seeds_and_all("policies", _SEEDS[budget], _distilled(budget))]


def _distilled(budget: Budget) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """A teacher, its student, and both at every number of steps."""
        from fermo.policies.beso.policy import BesoPolicy
        from fermo.training.bench.goal_methods import with_sampling_steps
        from fermo.training.data.reader import Dataset
        from fermo.training.distill import distill
        from fermo.training.fit import fit

        data = work.folder.parents[1] / "data" / "training"
        method, loop = TABLE.method("beso", budget), _loop(budget)
        teacher = fit(data, work.folder / "teacher", task=TABLE.task, family="beso",
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
    scores = goal_figures(policy, BlockPush(), dataset, rollouts=rollouts(budget), seed=TEST_SEED + seed)
    return {name: scores[name] for name in _MEASURES if name in scores} | {"distance": Number(value=distance)}


def _losses(work: Workspace, name: str) -> dict[str, Number]:
    from fermo.training.run_folder import RunFolder

    (_, first), *_, (_, last) = RunFolder(work.folder / name).scalars()["train/loss"]
    return {f"{name} first loss": Number(value=first), f"{name} last loss": Number(value=last)}


def _loop(budget: Budget) -> DistillConfig:
    from fermo.training.loops.distill_config import DistillConfig

    made = DistillConfig(steps=_STEPS[budget], batch_size=1024, validation=0.05)
    return replace(made, lr=1e-4, device="cuda") if budget is Budget.PAPER else made


def _check(results: Results) -> None:
    """The teacher's loss fell, and the student brings blocks nearer to where they shall go than random actions do.

    From all of the benchmark's demonstrations it must bring them nearer in one step than its teacher does in one. Its
    own loss need not fall: it is held against itself, and begins as its teacher, which hardly changes from one level to
    the next.
    """
    by_chance = results["data"]["random remaining"].value
    whole = results["data"]["demonstrations"].value >= TABLE.demonstrations[0]
    for cell, numbers in results.items():
        if "/seed=" not in cell:
            continue
        if numbers["teacher last loss"].value >= numbers["teacher first loss"].value:
            raise FermoError(f"the teacher's loss did not fall in {cell}; see its folder")
        if numbers["student at 1/remaining"].value >= by_chance:
            raise FermoError(f"the student in {cell} brings blocks no nearer than random actions")
        if whole and numbers["student at 1/remaining"].value >= numbers["teacher at 1/remaining"].value:
            raise FermoError(f"the student in {cell} brings blocks no nearer in one step than its teacher in one")


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
