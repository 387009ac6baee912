"""``fermo eval``: how often a checkpoint succeeds on held-out starts, or what it is rewarded, with a video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fermo.cli.parsing import existing_checkpoint, existing_folder, parse
from fermo.errors import FermoError

if TYPE_CHECKING:
    from fermo.envs.core.task import Task
    from fermo.policies.base import Policy
    from fermo.training.bench.evaluate import Outcome


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """Score a checkpoint on held-out starts.

    Attributes:
        checkpoint: Folder written by training.
        task: Which task; the one it was trained on when omitted.
        episodes: How many starts.
        seed: Of the starts; the default is the one that reports use.
        goals: A dataset of the task; policies that are told what to reach are shown the last frames of its episodes.
        video: Where to write a film of the first episode; none when omitted.
        json: Where to write the result; ``eval.json`` beside the checkpoint when omitted.
        compile: Compile the policy's sampler first, which takes a minute or so and pays over many steps.
    """

    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")]
    task: str | None = None
    episodes: int = 512
    seed: int = 2_000_000
    goals: Path | None = None
    video: Path | None = None
    json: Path | None = None
    compile: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False

    def __post_init__(self) -> None:
        if self.episodes < 1:
            raise FermoError(f"episodes must be at least 1, got {self.episodes}")
        if self.goals and self.video:
            raise FermoError("a film shows an episode without goals; leave --video or --goals out")


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(EvalOptions, "eval", arguments)
    task, policy = load_pair(options.checkpoint, options.task)
    if options.compile:
        _compile(policy, options)
    if options.goals:
        _by_goals(options, task, policy, existing_folder(options.goals, "dataset"))
        return
    from fermo.training.bench.evaluate import evaluate
    from fermo.training.files import write_json

    outcome = evaluate(
        task, policy, episodes=options.episodes, seed=options.seed, progress="episodes",
        record=1 if options.video else 0,
    )  # fmt: skip
    where, about = _about(options, task)
    rewards, told = _rewards(outcome)
    if outcome.solved is not None:
        successes, told = _successes(outcome)
        about |= successes
    write_json(where, about | rewards)
    print(f"{told}; {where}")
    if options.video:
        from fermo.envs.rendering.trajectory import render_trajectory
        from fermo.envs.rendering.video import write_mp4

        camera = task.model.camera(0).name if task.model.ncam else None
        frames = render_trajectory(task.picture_model(), outcome.qpos[0, ::2].numpy(), camera=camera)
        print(write_mp4(options.video, frames, task.spec.rate_hz / 2))


def _compile(policy: Policy, options: EvalOptions) -> None:
    """Whether a goal guides is compiled in, so that there must be one already where goals are shown."""
    from fermo.policies.windowed.policy import WindowedPolicy

    if options.goals and isinstance(policy, WindowedPolicy) and policy.goals.frames:
        policy.set_goal(policy.goals.blank())
    policy.compile_sampler(options.episodes)


def _about(options: EvalOptions, task: Task) -> tuple[Path, dict[str, object]]:
    """Where the result goes, and what it is of."""
    where = options.json or options.checkpoint.parent / "eval.json"
    return where, {"task": task.name, "checkpoint": str(options.checkpoint), "seed": options.seed,
                   "trials": options.episodes}  # fmt: skip


def _by_goals(options: EvalOptions, task: Task, policy: Policy, folder: Path) -> None:
    """Score the policy by what demonstrations achieved."""
    from fermo.training.bench.goal_figures import goal_figures
    from fermo.training.data.reader import Dataset
    from fermo.training.files import plain, write_json

    scores = goal_figures(policy, task, Dataset.open(folder), rollouts=options.episodes, seed=options.seed)
    where, about = _about(options, task)
    write_json(where, about | {"goals": str(options.goals)} | plain(scores))
    told = (f"{name} {number.value:.3g}" for name, number in scores.items())
    print(f"{', '.join(told)}; {where}")


def _successes(outcome: Outcome) -> tuple[dict[str, object], str]:
    """The success rate for the file and for people."""
    from fermo.cli.demo_pipeline import wilson_text
    from fermo.training.statistics import wilson

    successes, trials = int(outcome.success.sum()), len(outcome.success)
    rate = wilson(successes, trials)
    data = {"successes": successes, "rate": float(rate.value), "wilson_95": [float(rate.low), float(rate.high)]}
    return data, f"success {wilson_text(successes, trials)}"


def _rewards(outcome: Outcome) -> tuple[dict[str, object], str]:
    """The mean return for the file and for people; its interval is a bootstrap over the starts."""
    from fermo.training.statistics import bootstrap

    mean = bootstrap(outcome.returns.numpy(), seed=0)
    value, low, high = (float(number) for number in mean)
    length = float(outcome.lengths.double().mean())
    data = {"return": value, "bootstrap_95": [low, high], "length": length}
    told = f"return {value:.5g} ({low:.5g} to {high:.5g}, 95 % bootstrap interval of the mean"
    return data, f"{told} over {len(outcome.returns)} starts), {length:.4g} steps an episode"


def load_pair(checkpoint: Path, task_name: str | None) -> tuple[Task, Policy]:
    """The checkpoint's policy and the task it is for; `FermoError` when their signals do not match."""
    existing_checkpoint(checkpoint)
    from fermo.envs.registry import make_task, task_id
    from fermo.policies.checkpoint import load_checkpoint
    from fermo.policies.checkpoint_header import read_header

    name = task_name or read_header(checkpoint)["extra"].get("task")
    if name is None:
        raise FermoError(f"{checkpoint} does not say which task it is for; add --task NAME")
    policy, task = load_checkpoint(checkpoint), make_task(task_id(name))
    problems = policy.spec.mismatches(task.spec)
    if problems:
        raise FermoError(f"{checkpoint} does not fit {task.name}: {'; '.join(problems)}")
    return task, policy
