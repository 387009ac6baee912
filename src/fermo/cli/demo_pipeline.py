"""The whole job in stages: demonstrations, policies, robustness, the robot's wire, report.

Each stage leaves files in the run folder, and the report is built from those alone, so that a run stopped anywhere goes
on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fermo.envs.core.task import Task
from fermo.envs.perturbations.registry import perturbation_class
from fermo.envs.rendering.trajectory import render_trajectory
from fermo.envs.rendering.video import write_mp4
from fermo.hardware.deploy import VIDEO_RATE, DeployReport, Episode, deploy_on_twin
from fermo.policies.base import Policy
from fermo.policies.behavior_cloning import BehaviorCloningPolicy
from fermo.policies.checkpoint import load_checkpoint
from fermo.training.bench.evaluate import TEST_SEED, VALIDATION_SEED, Outcome, evaluate
from fermo.training.bench.grid import PICK_CUBE_GRID, outermost, run_grid
from fermo.training.demos.dataset import DEMONSTRATORS, record_dataset
from fermo.training.files import write_json
from fermo.training.fit import fit
from fermo.training.recipes import loop_recipe, policy_recipe
from fermo.training.report import schema
from fermo.training.report.build import build_report
from fermo.training.run_folder import RunFolder, Stage
from fermo.training.statistics import paired_difference, wilson

TASK = "fermo/SO101-PickCube-v0"
LABELS = {"lipschitz_bc": "Lipschitz BC", "mlp_bc": "Unconstrained BC"}
GOAL = "The cube is more than 5 cm above its start at the end of the episode."
STARTS = (
    "Cube anywhere 0.14 to 0.26 m from the base within 40 degrees to either side, at any yaw; none of these starts was "
    "used in training or to choose gamma."
)
WIDTH, HEIGHT = 240, 180
SIM_EVERY, TWIN_EVERY = 3, 2  # of the poses kept, one picture: 25 and 15 Hz


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """How much to do.

    Attributes:
        episode_s: Length of a simulated episode [s].
        episodes: Clean demonstrations.
        recoveries: Disturbed ones.
        steps: Gradient steps per policy.
        gammas: Lipschitz bounds to try.
        tolerance: The smallest gamma is chosen whose validation success is at most this much below the best one's.
        validation: Held-out starts that choose gamma.
        test: Held-out starts that are reported.
        expert: Held-out starts for the expert.
        worlds: Episodes a cell of the perturbation grid.
        whole_grid: Every severity, or only the outermost ones.
        twin_episodes: Tries on the twin, in real time.
        twin_seconds: Length of each [s].
        filmed: Episodes in each video.
        frames: Longest video, in pictures.
    """

    episode_s: float = 6.0
    episodes: int = 256
    recoveries: int = 768
    steps: int = 5_000
    gammas: tuple[float, ...] = (10.0, 12.0)
    tolerance: float = 0.01
    validation: int = 256
    test: int = 512
    expert: int = 128
    worlds: int = 64
    whole_grid: bool = True
    twin_episodes: int = 10
    twin_seconds: float = 6.0
    filmed: int = 1
    frames: int = 90


SMOKE = DemoConfig(episode_s=0.6, episodes=8, recoveries=8, steps=40, gammas=(10.0,), validation=8, test=8, expert=8,
                   worlds=2, whole_grid=False, twin_episodes=1, twin_seconds=1.0, frames=3)  # fmt: skip
"""Enough to see that the parts fit; the figures mean nothing."""


STAGES = ("record", "train", "choose", "score", "perturb", "deploy", "film", "report")


def run_demo(folder: Path, config: DemoConfig, *, seed: int = 0, resume: bool = False,
             stages: tuple[str, ...] = STAGES) -> RunFolder:  # fmt: skip
    """Run every stage that is not done; the last one builds the report.

    Args:
        folder: The run folder.
        config: How much to do.
        seed: Of demonstrations and training; held-out starts have their own.
        resume: Continue the run in `folder`.
        stages: Which, a beginning of `STAGES`.
    """
    seeds = {"demonstrations": seed, "training": seed, "validation": VALIDATION_SEED, "test": TEST_SEED}
    run = RunFolder.create(folder, config, seeds=seeds, resume=resume)
    demo = _Demo(run, config, seed)
    for name in stages:
        with run.stage(name) as stage:
            if not stage.done:
                print(f"[{name}]", flush=True)
                getattr(demo, name)(stage)
    return run


class _Demo:
    """The stages; each reads what earlier ones left in the run folder."""

    def __init__(self, run: RunFolder, config: DemoConfig, seed: int) -> None:
        self.run, self.config, self.seed = run, config, seed
        self.task: Task = DEMONSTRATORS[TASK].make(episode_s=config.episode_s)[0]

    def record(self, stage: Stage) -> None:
        """Demonstrations, successes and failures, on disk."""
        folder = stage.folder / "dataset"
        counts = record_dataset(
            TASK, folder, episodes=self.config.episodes, recoveries=self.config.recoveries, seed=self.seed,
            episode_s=self.config.episode_s,
        )  # fmt: skip
        stage.result = dict(counts)
        print("  " + ", ".join(f"{count} {title}" for title, count in counts.items()))

    def train(self, stage: Stage) -> None:
        """The unconstrained policy, and one for each gamma."""
        for name in self._names():
            family, overrides = name.partition("-")[0], _overrides(name)
            print(f"  {LABELS[family]}" + "".join(f", {key} {value:g}" for key, value in overrides.items()))
            fit(
                self.run.path / "record" / "dataset", stage.folder / name, task=TASK, family=family,
                policy=policy_recipe(TASK, family, seed=self.seed, **overrides),
                loop=loop_recipe(TASK, family, steps=self.config.steps, seed=self.seed),
            )  # fmt: skip
        schema.save(self.run.path, self._training_record())

    def choose(self, stage: Stage) -> None:
        """The smallest gamma that costs little, on validation starts."""
        rates = {}
        for gamma in self.config.gammas:
            success = self._score_policy(_lipschitz(gamma), self.config.validation, VALIDATION_SEED).success
            rates[gamma] = float(success.float().mean())
            print(f"  gamma {gamma:g}: {rates[gamma]:.1%} of {self.config.validation} validation starts")
        best = max(rates.values())
        chosen = min(gamma for gamma, rate in rates.items() if rate >= best - self.config.tolerance)
        stage.result = {"gamma": chosen, "validation": {f"{gamma:g}": rate for gamma, rate in rates.items()}}
        print(f"  chosen: gamma {chosen:g}")

    def score(self, stage: Stage) -> None:
        """Success on held-out starts, and the paired cost of the constraint."""
        test, chosen = self.config.test, self._chosen()
        free = self._score_policy("mlp_bc", test, TEST_SEED)
        outcomes = {gamma: self._score_policy(_lipschitz(gamma), test, TEST_SEED) for gamma in self.config.gammas}
        rows = (_paired_row(g, outcome.success.numpy(), free.success.numpy()) for g, outcome in outcomes.items())
        schema.save(self.run.path, schema.PairedSweep(chosen=chosen, rows=tuple(rows)))
        expert = DEMONSTRATORS[TASK].make(episode_s=self.config.episode_s)[1]
        assert callable(expert)  # it plans no episode
        clean = evaluate(self.task, expert, episodes=self.config.expert, seed=TEST_SEED, progress="expert")
        np.save(stage.folder / "filmed.npy", outcomes[chosen].qpos.numpy())
        scores = tuple(
            schema.Score(policy=key, label=label, successes=int(success.sum()), trials=len(success))
            for key, label, success in (
                ("lipschitz_bc", f"Lipschitz BC, gamma {chosen:g}", outcomes[chosen].success),
                ("mlp_bc", LABELS["mlp_bc"], free.success),
                ("expert", "Scripted expert", clean.success),
            )
        )
        schema.save(self.run.path, schema.Headline(task=TASK, goal=GOAL, starts=STARTS, scores=scores))
        schema.save(self.run.path, schema.Certificate.of_checkpoint(self._checkpoint(_lipschitz(chosen))))
        for score in scores:
            print(f"  {score.label}: {wilson_text(score.successes, score.trials)}")

    def perturb(self, stage: Stage) -> None:
        """Both policies under everything that can go wrong."""
        policies: dict[str, tuple[str, BehaviorCloningPolicy]] = {}
        for key, name in (("lipschitz_bc", _lipschitz(self._chosen())), ("mlp_bc", "mlp_bc")):
            policy = self._policy(name)
            assert isinstance(policy, BehaviorCloningPolicy)
            policies[key] = (LABELS[key], policy)
        axes = PICK_CUBE_GRID if self.config.whole_grid else outermost(PICK_CUBE_GRID)
        robustness = run_grid(self.task, policies, axes, worlds=self.config.worlds)
        schema.save(self.run.path, robustness)
        for curve in robustness.curves:
            end = 0 if curve.severities[-1] == perturbation_class(curve.kind).nominal else -1
            rates = (f"{s.label} {s.successes[end] / s.trials[end]:.0%}" for s in curve.series if not s.random)
            unit = "" if curve.unit == "1" else f" {curve.unit}"
            print(f"  {curve.title} {curve.severities[end]:g}{unit}: {', '.join(rates)}")

    def deploy(self, stage: Stage) -> None:
        """The chosen checkpoint, unchanged, on the twin through the real servo SDK, in real time."""
        report = deploy_on_twin(
            self._checkpoint(_lipschitz(self._chosen())), episodes=self.config.twin_episodes, seed=TEST_SEED,
            seconds=self.config.twin_seconds, video=self.config.filmed, on_episode=_say,
        )  # fmt: skip
        write_json(stage.folder / "deploy.json", report.to_json())
        np.save(stage.folder / "filmed.npy", np.concatenate(report.qpos))
        schema.save(self.run.path, _deployment(report))
        schema.save(self.run.path, schema.Differences(rows=tuple(report.differences)))
        summary = report.loop.summary()
        print(
            f"  {report.successes} of {len(report.episodes)} lifted; period {_times(summary['period_ms'])}, lateness "
            f"{_times(summary['lateness_ms'])}, {summary['misses']} misses, {summary['stale_reads']} stale reads"
        )

    def film(self, stage: Stage) -> None:
        """Both videos."""
        poses = np.load(self.run.path / "score" / "filmed.npy")
        sim = poses[:, ::SIM_EVERY].reshape(-1, poses.shape[-1])
        self._film(schema.SIM_VIDEO, sim, self.task.spec.rate_hz / SIM_EVERY)
        twin = np.load(self.run.path / "deploy" / "filmed.npy")
        self._film(schema.TWIN_VIDEO, twin[::TWIN_EVERY], VIDEO_RATE / TWIN_EVERY)

    def report(self, stage: Stage) -> None:
        """One page from the files of this run."""
        print(f"  {build_report(self.run.path)}")

    def _film(self, name: str, qpos: np.ndarray, fps: float) -> None:
        poses = qpos[: self.config.frames]
        frames = render_trajectory(self.task.picture_model(), poses, camera="front", width=WIDTH, height=HEIGHT)
        write_mp4(self.run.path / name, frames, fps)

    def _score_policy(self, name: str, episodes: int, seed: int) -> Outcome:
        policy = self._policy(name)
        return evaluate(self.task, policy, episodes=episodes, seed=seed, record=self.config.filmed, progress=name)

    def _names(self) -> list[str]:
        return ["mlp_bc", *(_lipschitz(gamma) for gamma in self.config.gammas)]

    def _chosen(self) -> float:
        return float(self.run.result("choose")["gamma"])

    def _checkpoint(self, name: str) -> Path:
        return self.run.path / "train" / name / "checkpoint"

    def _policy(self, name: str) -> Policy:
        return load_checkpoint(self._checkpoint(name))

    def _training_record(self) -> schema.Training:
        lines = []
        for name in self._names():
            points = self.run.scalars(f"train/{name}")["train/loss"]
            family, overrides = name.partition("-")[0], _overrides(name)
            label = LABELS[family] + "".join(f", {key} {value:g}" for key, value in overrides.items())
            steps, values = zip(*points, strict=True)
            lines.append(schema.TrainingLine(policy=family, label=label, steps=steps, values=values))
        sentence = "Mean squared error of the normalised action on the training batches."
        chart = schema.TrainingChart(title="Loss", unit="1", sentence=sentence, lines=tuple(lines))
        return schema.Training(charts=(chart,))


def _lipschitz(gamma: float) -> str:
    return f"lipschitz_bc-gamma={gamma:g}"


def _overrides(name: str) -> dict[str, float]:
    """``"lipschitz_bc-gamma=5"`` to ``{"gamma": 5.0}``."""
    pairs = (part.split("=") for part in name.split("-")[1:])
    return {key: float(value) for key, value in pairs}


def _paired_row(gamma: float, constrained: np.ndarray, free: np.ndarray) -> schema.PairedRow:
    (value, low, high), table = paired_difference(constrained, free)
    print(f"  gamma {gamma:g}: constrained - unconstrained {100 * value:+.1f} points, "
          f"95 % interval {100 * low:+.1f} to {100 * high:+.1f}")  # fmt: skip
    both, first, second, neither = table
    return schema.PairedRow(
        gamma=gamma, both=both, only_constrained=first, only_unconstrained=second, neither=neither
    )


def _say(episode: Episode) -> None:
    print(f"  twin: {'lifted' if episode.success else episode.fault or 'not lifted'}", flush=True)


def _deployment(report: DeployReport) -> schema.Deployment:
    loop = report.loop
    return schema.Deployment(
        robot="the SO-101 twin, over a pty through the Feetech SDK", successes=report.successes,
        episodes=len(report.episodes), period_s=1.0 / loop.rate_hz, periods_s=tuple(map(float, loop.period)),
        lateness_s=tuple(map(float, loop.lateness)), misses=loop.misses, stale_reads=loop.stale_reads,
    )  # fmt: skip


def wilson_text(successes: int, trials: int) -> str:
    """A rate with its 95 % Wilson interval, for people."""
    rate = wilson(successes, trials)
    return f"{float(rate.value):.1%} of {trials} (95 % Wilson interval {float(rate.low):.1%} to {float(rate.high):.1%})"


def _times(spread: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value:.1f}" for name, value in spread.items()) + " ms"
