"""``fermo train``: a policy from demonstrations, or an actor by reinforcement, in a run folder that resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from fermo.cli.parsing import existing_folder, parse
from fermo.envs.registry import TASKS, task_id
from fermo.errors import FermoError, unknown_name
from fermo.policies.registry import FAMILIES, config_class
from fermo.training.demos.experts import expert_task
from fermo.training.loops.rl_config import LEARNERS
from fermo.training.recipes import loop_class, loop_recipe, policy_recipe


@dataclass(frozen=True, kw_only=True)
class _TrainOptions:
    """Train FAMILY on demonstrations of TASK, recorded first unless --data names a dataset.

    Under torchrun every process takes its share of each batch.

    Attributes:
        data: A dataset recorded before.
        num_envs: Demonstrations to record otherwise, three quarters of them disturbed.
        folder: The run; ``runs/TASK-FAMILY`` when omitted. The checkpoint is ``train/checkpoint`` in it.
        seed: Of the demonstrations.
        resume: Continue the run in that folder.
        allow_unstable: Train even where the policy's bound is below the slope that the plant needs to be held.
    """

    data: Path | None = None
    num_envs: int = 1024
    folder: Path | None = None
    seed: int = 0
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    allow_unstable: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False

    def __post_init__(self) -> None:
        if self.num_envs < 2:
            raise FermoError(f"num-envs must be at least 2, got {self.num_envs}")


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    names, rest = _leading_names(arguments)
    if not names and any(argument in ("-h", "--help") for argument in arguments):
        print(_usage())
        raise SystemExit(0)
    if len(names) != 2:
        raise FermoError(f"fermo train needs a task and a family or a learner: {_choices()}")
    task, family = task_id(names[0]), names[1]
    if family in LEARNERS:
        from fermo.cli import train_rl

        train_rl.main(task, names[0], family, rest)
    elif family in FAMILIES:
        policy_config = config_class(family)
        rest = [_to_loop(argument, policy_config, loop_class(family)) for argument in rest]
        _train(task, family, parse(_options_class(task, family, policy_config), f"train {names[0]} {family}", rest))
    else:
        raise unknown_name("policy family or learner", family, [*FAMILIES, *LEARNERS])


def _leading_names(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    count = next((i for i, argument in enumerate(arguments) if argument.startswith("-")), len(arguments))
    return list(arguments[:count]), list(arguments[count:])


def _to_loop(argument: str, policy_config: type[Any], loop_config: type[Any]) -> str:
    """``--policy.lr`` means the loop's ``lr`` for a family that has none of its own."""
    name = argument.removeprefix("--policy.").partition("=")[0].replace("-", "_")
    ours, loops = ({item.name for item in fields(config)} for config in (policy_config, loop_config))
    if argument.startswith("--policy.") and name in loops - ours:
        return argument.replace("--policy.", "--training.", 1)
    return argument


def _choices() -> str:
    tasks = ", ".join(task.removeprefix("fermo/") for task in TASKS)
    return f"tasks {tasks}; families {', '.join(FAMILIES)}; learners {', '.join(LEARNERS)}"


def _usage() -> str:
    return (
        "usage: fermo train TASK FAMILY [options]\n       fermo train TASK LEARNER [options]\n\n"
        "Train a policy on demonstrations, recorded first unless --data names a dataset,\n"
        "or an actor by reinforcement in simulation.\n\n"
        f"{_choices()}\n\n`fermo train TASK FAMILY --help` lists the options of that family or learner."
    )


def _options_class(task: str, family: str, policy_config: type[Any]) -> type[Any]:
    """The options with the family's own settings under ``--policy``; defaults are the task's recipe."""
    made = make_dataclass(
        "TrainOptions",
        [
            ("policy", policy_config, field(default_factory=lambda: policy_recipe(task, family))),
            ("training", loop_class(family), field(default_factory=lambda: loop_recipe(task, family))),
        ],
        bases=(_TrainOptions,), frozen=True, kw_only=True,
    )  # fmt: skip
    made.__doc__ = f"{_TrainOptions.__doc__}\n        policy: The policy.\n        training: The loop.\n"
    return made


def _train(task: str, family: str, options: Any) -> None:
    from fermo.training.loops.processes import joined
    from fermo.training.run_folder import RunFolder

    folder = options.folder or Path("runs") / f"{task.removeprefix('fermo/')}-{family}"
    config = {"task": task, "family": family, "policy": options.policy, "training": options.training,
              "data": str(options.data) if options.data else None, "num_envs": options.num_envs}  # fmt: skip
    if options.data is None:
        expert_task(task)
    else:
        from fermo.training.data.reader import Dataset

        Dataset.open(existing_folder(options.data, "dataset"))  # a damaged one is found before a run folder is made
    on_gpu = getattr(options.training, "device", "cpu").startswith("cuda")
    with joined(on_gpu=on_gpu) as processes:
        run = RunFolder.shared(folder, config, processes=processes, seeds={"data": options.seed}, resume=options.resume)
        data = options.data or _recorded(run, task, options, processes)
        checkpoint = _fitted(run, task, family, data, options, processes)
        if processes.first:
            print(f"{checkpoint}\nwatch it with: fermo play {checkpoint}")


def _recorded(run: Any, task: str, options: Any, processes: Any) -> Path:
    """The run's own demonstrations, which the first process records."""
    from fermo.training.demos.dataset import DEMONSTRATORS, record_dataset

    recoveries = DEMONSTRATORS[task].recoveries(options.num_envs - options.num_envs // 4)
    with run.stage("record") as stage:
        folder = stage.folder / "dataset"
        if processes.first and not stage.done and not folder.exists():
            counts = record_dataset(
                task, folder, episodes=options.num_envs - recoveries, recoveries=recoveries, seed=options.seed
            )
            print(", ".join(f"{count} {title}" for title, count in counts.items()))
            stage.result = dict(counts)
    processes.wait()
    return folder


def _fitted(run: Any, task: str, family: str, data: Path, options: Any, processes: Any) -> Path:
    """The checkpoint, trained now or by an earlier process."""
    from fermo.policies.checkpoint_header import read_header
    from fermo.training.fit import fit

    with run.stage("train") as stage:
        processes.wait()
        if not stage.done:
            if not options.allow_unstable:
                _require_slope(task, data, options.policy)
            fit(data, stage.folder, task=task, family=family, policy=options.policy, loop=options.training,
                processes=processes)  # fmt: skip
            stage.result = read_header(stage.folder / "checkpoint")["extra"]["metrics"]
            if processes.first:
                print(", ".join(f"{name} {value:.4g}" for name, value in stage.result.items()))
        return stage.folder / "checkpoint"


def _require_slope(task: str, data: Path, policy: Any) -> None:
    """What a bound in plain normalised units must be at least, where the task's plant is known."""
    import torch

    from fermo.policies.normalizer import Normalizer
    from fermo.training.data.reader import Dataset
    from fermo.training.guarantee.floor import require_slope

    gamma = getattr(policy, "gamma", None) or getattr(policy, "alpha", None)
    weighted = any(getattr(policy, name, None) for name in ("input_weights", "output_weights", "slope_bounds"))
    if gamma is None or weighted:
        return
    dataset, scales = Dataset.open(data), []
    seen, done = (dataset.spec.observations, dataset.observations), (dataset.spec.commands, dataset.actions)
    for signals, values in (seen, done):
        normalizer = Normalizer(signals)
        normalizer.fit(torch.from_numpy(values))
        scales.append(normalizer.std.double().numpy())
    require_slope(task, gamma, *scales)
