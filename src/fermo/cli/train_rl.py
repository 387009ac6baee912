"""``fermo train TASK LEARNER``: reinforcement learning in a batch of worlds, on one process or several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, make_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fermo.cli.parsing import parse
from fermo.cli.perturbing import perturbation
from fermo.errors import FermoError
from fermo.training.loops.rl_config import LearnerConfig, learner_config
from fermo.training.recipes import learner_recipe, worlds_recipe

if TYPE_CHECKING:
    from fermo.envs.perturbations.base import Perturbation


@dataclass(frozen=True, kw_only=True)
class _LearnOptions:
    """Train an actor in simulation by LEARNER; under torchrun, every process simulates its own worlds.

    Attributes:
        num_envs: Worlds, in each process.
        backend: Of the simulation.
        threads: Of the CPU back end; 0 takes all.
        perturb: What is wrong with the worlds, each NAME=SEVERITY, or NAME=LOW:HIGH for a severity drawn for each
            episode; fermo tasks --perturbations lists them.
        folder: The run; ``runs/TASK-LEARNER`` when omitted. The checkpoint is ``train/checkpoint`` in it.
        seed: Of the worlds, the networks and the exploration.
        resume: Continue the run in that folder.
        training: The learner.
    """

    num_envs: int = 1
    backend: Literal["cpu", "warp"] = "cpu"
    threads: int = 0
    perturb: tuple[str, ...] = ()
    folder: Path | None = None
    seed: int = 0
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    training: LearnerConfig = field(default_factory=LearnerConfig)

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.threads < 0:
            raise FermoError(f"num-envs must be positive and threads not negative, got {self.num_envs}, {self.threads}")


def main(task: str, name: str, learner: str, arguments: Sequence[str]) -> None:
    """Entry point, once the names are known: the task as registered and as written, and the learner."""
    options: Any = parse(_options_class(task, learner), f"train {name} {learner}", arguments)
    folder = options.folder or Path("runs") / f"{task.removeprefix('fermo/')}-{learner}"
    config = {"task": task, "learner": learner, "training": options.training, "num_envs": options.num_envs,
              "backend": options.backend, "perturb": options.perturb}  # fmt: skip
    perturbations = _perturbations(task, options.perturb)
    import torch

    from fermo.training.learn import learn
    from fermo.training.loops.processes import joined
    from fermo.training.run_folder import RunFolder

    with joined(on_gpu=options.backend == "warp" and torch.cuda.is_available()) as processes:
        run = RunFolder.shared(folder, config | {"processes": processes.count}, processes=processes,
                               seeds={"training": options.seed}, resume=options.resume)  # fmt: skip
        with run.stage("train") as stage:
            processes.wait()
            if not stage.done:
                learn(stage.folder, task=task, learner=learner, config=options.training, num_envs=options.num_envs,
                      backend=options.backend, threads=options.threads, seed=options.seed,
                      perturbations=perturbations, processes=processes)  # fmt: skip
        if processes.first:
            checkpoint = stage.folder / "checkpoint"
            print(f"{checkpoint}\nscore it with: fermo eval {checkpoint}\nwatch it with: fermo play {checkpoint}")


def _perturbations(task: str, texts: Sequence[str]) -> list[Perturbation]:
    """What is wrong with the worlds; tried on one world, so that what does not fit the task is told at once."""
    if texts:
        from fermo.envs.core.vector_env import VectorEnv
        from fermo.envs.registry import make_task

        VectorEnv(make_task(task), 1, perturbations=[perturbation(text) for text in texts])
    return [perturbation(text) for text in texts]


def _options_class(task: str, learner: str) -> type[Any]:
    """The options with the learner's own settings under ``--training``; defaults are the task's recipe."""
    made = make_dataclass(
        "LearnOptions",
        [
            ("num_envs", int, field(default=worlds_recipe(task, learner))),
            ("training", learner_config(learner), field(default_factory=lambda: learner_recipe(task, learner))),
        ],
        bases=(_LearnOptions,), frozen=True, kw_only=True,
    )  # fmt: skip
    made.__doc__ = _LearnOptions.__doc__
    return made
