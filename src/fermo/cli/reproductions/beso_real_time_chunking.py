"""``beso-real-time-chunking``: chunks of a diffusion policy on the twin, under delays, in real time and otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fermo.errors import FermoError
from fermo.hardware.chunking import CHUNKINGS, make_chunking
from fermo.training.reproduce.registry import Budget, Cell, Number, Reproduction, Results, Row, Workspace, register

if TYPE_CHECKING:
    from fermo.hardware.deploy import DeployReport

TASK = "fermo/SO101-PickCube-v0"
CHUNK, EXECUTE = 24, 12
"""Actions in a chunk, about one second, and of these carried out before the next is asked for."""

_DELAYS_MS = (100, 200, 300)


@dataclass(frozen=True, kw_only=True)
class _Spent:
    """What a budget spends.

    Attributes:
        demonstrations: Undisturbed ones; what follows a disturbance cannot be foreseen when a chunk is begun.
        steps: Gradient steps.
        policy: What changes in the task's recipe.
        delays_ms: Injected, in simulated time.
        wall_ms: Injected on the wall clock, which says nothing on a machine that is busy with other things.
        episodes: Tries of each mode under each delay.
        wall_episodes: Tries of each mode on the wall clock.
        trials: Held-out starts in simulation.
    """

    demonstrations: int
    steps: int
    policy: Mapping[str, Any]
    delays_ms: tuple[int, ...]
    wall_ms: tuple[int, ...]
    episodes: int
    wall_episodes: int
    trials: int


def _spent(budget: Budget) -> _Spent:
    from fermo.policies.beso.config import TransformerConfig

    modest = {"network": TransformerConfig(layers=2, heads=2, width=64, attention_dropout=0.0, residual_dropout=0.0)}
    return {
        Budget.SMOKE: _Spent(demonstrations=32, steps=600, policy=modest, delays_ms=(200,), wall_ms=(), episodes=2,
                             wall_episodes=0, trials=4),
        Budget.SMALL: _Spent(demonstrations=256, steps=5_000, policy=modest, delays_ms=_DELAYS_MS, wall_ms=(),
                             episodes=10, wall_episodes=0, trials=128),
        Budget.PAPER: _Spent(demonstrations=1024, steps=40_000, policy={}, delays_ms=_DELAYS_MS,
                             wall_ms=_DELAYS_MS, episodes=100, wall_episodes=20, trials=512),
    }[budget]  # fmt: skip


def _cells(budget: Budget) -> Sequence[Cell]:
    spent = _spent(budget)
    return [
        Cell(name="train", seed=0, steps=spent.steps, work=_trained(spent)),
        *(Cell(name=f"delay={ms}ms", seed=0, steps=spent.episodes, work=_deployed(ms)) for ms in spent.delays_ms),
        *(Cell(name=f"wall-clock/delay={ms}ms", seed=0, steps=spent.wall_episodes, work=_deployed(ms, lockstep=False))
          for ms in spent.wall_ms),
    ]  # fmt: skip


def _trained(spent: _Spent) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """Demonstrations, the policy, and what it does in simulation where it computes in no time."""
        from fermo.envs.registry import make_task
        from fermo.training.bench.evaluate import TEST_SEED, evaluate
        from fermo.training.demos.dataset import record_dataset
        from fermo.training.fit import fit
        from fermo.training.recipes import loop_recipe, policy_recipe
        from fermo.training.run_folder import RunFolder

        data = work.folder / "data"
        if not data.is_dir():
            record_dataset(TASK, data, episodes=spent.demonstrations, recoveries=0, seed=work.seed)
        config = policy_recipe(TASK, "beso", seed=work.seed, chunk=CHUNK, execute=EXECUTE, **spent.policy)
        loop = loop_recipe(TASK, "beso", seed=work.seed, steps=work.steps, batch_size=64)
        policy = fit(data, work.folder / "fit", task=TASK, family="beso", policy=config, loop=loop)
        success = evaluate(make_task(TASK), policy, episodes=spent.trials, seed=TEST_SEED).success
        (_, first), *_, (_, last) = RunFolder(work.folder / "fit").scalars()["train/loss"]
        return {"success": Number.rate(int(success.sum()), spent.trials), "first loss": Number(value=first),
                "last loss": Number(value=last)}  # fmt: skip

    return work


def _deployed(delay_ms: int, *, lockstep: bool = True) -> Callable[[Workspace], Mapping[str, Number]]:
    def work(work: Workspace) -> Mapping[str, Number]:
        """Every mode under one delay, from the same starts, over the wire of the twin's process."""
        from fermo.hardware.deploy import deploy_on_twin
        from fermo.training.bench.evaluate import TEST_SEED

        home = next(parent for parent in work.folder.parents if (parent / "train").is_dir())
        numbers = {}
        for name in CHUNKINGS:
            report = deploy_on_twin(
                home / "train" / "fit" / "checkpoint", episodes=work.steps, lockstep=lockstep, seed=TEST_SEED,
                chunking=make_chunking(name, execute=EXECUTE), inference_delay=delay_ms / 1000,
            )  # fmt: skip
            numbers |= {f"{name}/{key}": number for key, number in _measured(report).items()}
        return numbers

    return work


def _measured(report: DeployReport) -> dict[str, Number]:
    """Success, jerk as a mean over episodes with its bootstrap interval, and counts."""
    import numpy as np

    from fermo.training.statistics import bootstrap

    assert report.chunks is not None
    faults = [episode.fault for episode in report.episodes if episode.fault]
    if faults:
        raise FermoError(f"the twin stopped: {faults[0]}")
    told, episodes = report.chunks.summary(), report.chunks.seams()
    numbers = {"success": Number.rate(report.successes, len(report.episodes))}
    for name in ("jerk", "inner_jerk"):
        means = np.array([getattr(each, name).mean() for each in episodes if getattr(each, name).size])
        value, low, high = (float(each) for each in bootstrap(means, seed=0))
        numbers[name] = Number(value=value, low=low, high=high, unit="rad/s^3", trials=len(means))
    return numbers | {
        "largest_step": Number(value=told["largest_seam_step"], unit="rad"),
        "largest_inner_step": Number(value=told["largest_inner_step"], unit="rad"),
        "delay": Number(value=told["delay_actions"]["median"]),
        "longest_delay": Number(value=told["delay_actions"]["max"]),
        "misses": Number(value=report.loop.misses),
        **{name: Number(value=told[name]) for name in ("chunks", "holds", "late", "dropped")},
    }


def _check(results: Results) -> None:
    """The loss fell, nobody waited who should not, and real-time seams are smoother than naive ones."""
    trained = results["train"]
    if trained["last loss"].value >= trained["first loss"].value:
        raise FermoError("the loss did not fall; see the run folder")
    for cell, numbers in results.items():
        if "naive/jerk" not in numbers:
            continue
        real_time, naive = numbers["real-time/jerk"].value, numbers["naive/jerk"].value
        if real_time >= naive:
            raise FermoError(f"real-time seams are no smoother in {cell}: {real_time:.3g} against {naive:.3g} rad/s^3")
        if numbers["synchronous/holds"].value == 0:
            raise FermoError(f"the delay did not reach the robot in {cell}: synchronous chunking never held")


_MEASURES = {"jerk": "jerk at seams", "inner_jerk": "jerk inside chunks", "success": "success"}


def _rows() -> tuple[Row, ...]:
    cells = [(f"delay={ms}ms", f"{ms} ms") for ms in _DELAYS_MS]
    cells += [(f"wall-clock/delay={ms}ms", f"{ms} ms on the wall clock") for ms in _DELAYS_MS]
    return (
        Row(cell="train", number="success", label="success in simulation without delay"),
        *(Row(cell=cell, number=f"{mode}/{number}", label=f"{title}: {label}, {mode}")
          for cell, title in cells for number, label in _MEASURES.items() for mode in CHUNKINGS),
    )  # fmt: skip


BESO_REAL_TIME_CHUNKING = register(
    Reproduction(
        name="beso-real-time-chunking",
        title="BESO on the SO-101 twin under inference delays: real-time chunking, naive switching, waiting",
        cells=_cells,
        rows=_rows(),
        check=_check,
    )
)
