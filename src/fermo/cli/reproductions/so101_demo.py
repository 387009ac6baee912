"""``so101-demo``: Lipschitz behaviour cloning against the same network unconstrained, in simulation and on the twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from fermo.errors import FermoError
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace, register
from fermo.training.statistics import newcombe_paired

if TYPE_CHECKING:
    from fermo.cli.demo_pipeline import DemoConfig

_SEEDS = {Budget.SMOKE: (0,), Budget.SMALL: (0, 1, 2), Budget.PAPER: (0, 1, 2, 3, 4)}
_TWIN_EPISODES = {Budget.SMOKE: 2, Budget.SMALL: 200, Budget.PAPER: 200}


def _config(budget: Budget) -> DemoConfig:
    from fermo.cli.demo_pipeline import DemoConfig

    small = DemoConfig(gammas=(7.0, 10.0, 12.0, 15.0), steps=8_000)
    return {
        Budget.SMOKE: DemoConfig(
            episodes=32, recoveries=96, steps=1_200, gammas=(10.0,), validation=32, test=64, expert=32
        ),
        Budget.SMALL: small,
        Budget.PAPER: replace(small, episodes=1_024, recoveries=3_072, steps=40_000, test=2_048),
    }[budget]


def _cells(budget: Budget) -> Sequence[Cell]:
    config, seeds = _config(budget), _SEEDS[budget]
    train = [Cell(name=f"sim/seed={seed}", seed=seed, steps=config.steps, work=_sim(config)) for seed in seeds]
    twin = Cell(name="twin/seed=0", seed=0, steps=_TWIN_EPISODES[budget], work=_twin)
    return [*train, Cell(name="sim/all", seed=0, steps=0, work=_pooled), twin]


def _sim(config: DemoConfig):
    def work(work: Workspace) -> Mapping[str, Number]:
        """Demonstrations, both policies and their scores on held-out starts, for one seed."""
        from fermo.cli.demo_pipeline import STAGES, run_demo
        from fermo.training.report import schema

        run = run_demo(work.folder / "run", config, seed=work.seed, resume=True, stages=STAGES[:4])
        headline = schema.load(run.path, schema.Headline)
        numbers = {score.policy: Number.rate(score.successes, score.trials) for score in headline.scores}
        for row in schema.load(run.path, schema.PairedSweep).rows:
            value, low, high = newcombe_paired(row.both, row.only_constrained, row.only_unconstrained, row.neither)
            trials = row.both + row.only_constrained + row.only_unconstrained + row.neither
            numbers[f"difference/gamma={row.gamma:g}"] = Number(
                value=float(value), low=float(low), high=float(high), trials=trials
            )
        loss = schema.load(run.path, schema.Training).charts[0].lines[-1].values
        sweep = schema.load(run.path, schema.PairedSweep)
        return numbers | {"chosen gamma": Number(value=sweep.chosen), "first loss": Number(value=loss[0]),
                          "last loss": Number(value=loss[-1]), "random": _random(work, config)}  # fmt: skip

    return work


def _random(work: Workspace, config: DemoConfig) -> Number:
    """Success of uniformly random goal angles on the same starts."""
    import torch

    from fermo.cli.demo_pipeline import TASK
    from fermo.envs.registry import make_task
    from fermo.training.bench.evaluate import TEST_SEED, evaluate

    task, generator = make_task(TASK), torch.Generator().manual_seed(work.seed)
    bounds = task.spec.commands[0]
    low, high = torch.tensor(bounds.low), torch.tensor(bounds.high)
    success = evaluate(
        task, lambda obs: low + (high - low) * torch.rand(len(obs), len(low), generator=generator),
        episodes=min(64, config.test), seed=TEST_SEED,
    ).success  # fmt: skip
    return Number.rate(int(success.sum()), len(success))


def _pooled(work: Workspace) -> Mapping[str, Number]:
    """All seeds together."""
    seeds = [numbers for cell, numbers in work.results.items() if cell.startswith("sim/seed=")]
    return {
        key: Number.rate(
            sum(round(numbers[key].value * (numbers[key].trials or 0)) for numbers in seeds),
            sum(numbers[key].trials or 0 for numbers in seeds),
        )
        for key in ("lipschitz_bc", "mlp_bc", "expert")
    }


def _twin(work: Workspace) -> Mapping[str, Number]:
    """The first seed's chosen policy on the twin, in lockstep time."""
    from fermo.hardware.deploy import deploy_on_twin
    from fermo.training.bench.evaluate import TEST_SEED

    gamma = work.results["sim/seed=0"]["chosen gamma"].value
    name = f"lipschitz_bc-gamma={gamma:g}"
    checkpoint = next(parent for parent in work.folder.parents if (parent / "sim").is_dir()) / "sim" / "seed=0"
    report = deploy_on_twin(
        checkpoint / "run" / "train" / name / "checkpoint", episodes=work.steps, lockstep=True, seed=TEST_SEED
    )
    return {"lipschitz_bc": Number.rate(report.successes, len(report.episodes))}


def _check(results: Results) -> None:
    """The loss fell, and what was trained beats what was not."""
    for cell, numbers in results.items():
        if not cell.startswith("sim/seed="):
            continue
        if numbers["last loss"].value >= numbers["first loss"].value:
            raise FermoError(f"the loss did not fall in {cell}; see its run folder")
        if numbers["lipschitz_bc"].value <= numbers["random"].value:
            raise FermoError(f"the trained policy does no better than a random one in {cell}")


SO101_DEMO = register(
    Reproduction(
        name="so101-demo",
        title="SO-101 PickCube: Lipschitz BC against the same network unconstrained, in simulation and on the twin",
        cells=_cells,
        rows=(
            Row(cell="sim/all", number="expert", label="scripted expert, simulation"),
            Row(cell="sim/all", number="lipschitz_bc", label="Lipschitz BC, simulation"),
            Row(cell="sim/all", number="mlp_bc", label="unconstrained BC, simulation"),
            *(
                Row(cell=f"sim/seed={seed}", number=f"difference/gamma={gamma}",
                    label=f"Lipschitz - unconstrained, gamma {gamma}, seed {seed}")
                for gamma in (7, 10, 12, 15) for seed in (0, 1, 2)
            ),
            Row(cell="twin/seed=0", number="lipschitz_bc", label="Lipschitz BC, twin in lockstep time"),
        ),
        check=_check,
    )
)  # fmt: skip
