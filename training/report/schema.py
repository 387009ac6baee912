"""What a run leaves behind for its report: one JSON file a record, and two videos.

The pipeline fills these and calls `save`; `build_report` reads them with `load` and needs every one of them. Counts are
stored, never percentages: intervals are computed where they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from fermo.errors import FermoError
from fermo.training.files import read_json, write_json
from fermo.training.records import from_json

SIM_VIDEO, TWIN_VIDEO = "videos/sim.mp4", "videos/twin.mp4"


@dataclass(frozen=True, kw_only=True)
class Score:
    """How often a policy succeeded.

    Attributes:
        policy: Short key that keeps its colour over the page, for example ``"lipschitz_bc"``.
        label: Its name for people, "Lipschitz BC".
        successes: Episodes that ended well.
        trials: Episodes in all.
    """

    policy: str
    label: str
    successes: int
    trials: int

    def __post_init__(self) -> None:
        _check_counts(self.label, (self.successes,), (self.trials,))


@dataclass(frozen=True, kw_only=True)
class Headline:
    """Success of each policy on the same held-out starts.

    Attributes:
        task: Name of the task.
        goal: What success means, in a sentence.
        starts: How the held-out starts were drawn, in a sentence.
        scores: The policies, the one the page is about first, and the scripted expert.
    """

    file: ClassVar[str] = "results/headline.json"
    task: str
    goal: str
    starts: str
    scores: tuple[Score, ...]


@dataclass(frozen=True, kw_only=True)
class Series:
    """One policy along one perturbation.

    Attributes:
        policy: As in `Score`.
        label: As in `Score`.
        successes: Per severity.
        trials: Per severity.
        random: Whether this is the companion run under random noise of equal norm, drawn dashed.
    """

    policy: str
    label: str
    successes: tuple[int, ...]
    trials: tuple[int, ...]
    random: bool = False

    def __post_init__(self) -> None:
        _check_counts(self.label, self.successes, self.trials)


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Success against the severity of one perturbation.

    Attributes:
        kind: Its registered name.
        title: For people, "Observation noise".
        unit: Unit of the severity, ``"1"`` for a pure number.
        sentence: What is done to the plant, in plain words.
        severities: Increasing, in `unit`.
        series: Policies, and their companions where there are any.
    """

    kind: str
    title: str
    unit: str
    sentence: str
    severities: tuple[float, ...]
    series: tuple[Series, ...]

    def __post_init__(self) -> None:
        if not self.severities or list(self.severities) != sorted(set(self.severities)):
            raise ValueError(f"severities of {self.kind!r} must increase, got {list(self.severities)}")
        for series in self.series:
            if len(series.trials) != len(self.severities):
                raise ValueError(f"{series.label!r} under {self.kind!r} needs {len(self.severities)} counts")


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Every perturbation of the grid."""

    file: ClassVar[str] = "results/robustness.json"
    curves: tuple[Curve, ...]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """How far one command can move per unit of change of one observation signal, a proved bound.

    Attributes:
        command: Name of the command.
        observation: Name of the observation signal.
        gain: The bound, L2 to L2, in `unit`.
        unit: SI, for example ``"(rad)/(m)"``.
    """

    command: str
    observation: str
    gain: float
    unit: str


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What is proved of the constrained policy: the part of its checkpoint's ``certificate.json`` that people read.

    Attributes:
        claim: The inequality that holds.
        lipschitz: Its constant, in normalised units.
        norm: Of input and output.
        method: What gave the bound.
        domain: The observations it speaks of.
        by_construction: Whether training could not have broken it.
        gamma_requested: The constant the policy was built for, None when it was not built for one.
        steepest_slope_found: By a search; a bound this close to it is tight.
        conditions: What the claim takes for granted.
        sensitivity: The same in SI units, signal by signal.
    """

    file: ClassVar[str] = "results/certificate.json"
    claim: str
    lipschitz: float
    norm: str
    method: str
    domain: str
    by_construction: bool
    gamma_requested: float | None
    steepest_slope_found: float
    conditions: tuple[str, ...]
    sensitivity: tuple[Sensitivity, ...]

    @classmethod
    def of_checkpoint(cls, checkpoint: Path) -> Certificate:
        """From a checkpoint folder. Raises `FermoError` when it has no certificate, or not one of this form."""
        path = checkpoint / "certificate.json"
        return from_json(cls, read_json(path), str(path), only_known=True)


@dataclass(frozen=True, kw_only=True)
class PairedRow:
    """Outcomes of the constrained and the unconstrained policy on the same starts, for one gamma.

    Attributes:
        gamma: The Lipschitz bound.
        both: Starts on which both succeeded.
        only_constrained: Starts on which only the constrained one did.
        only_unconstrained: Starts on which only the unconstrained one did.
        neither: Starts on which both failed.
    """

    gamma: float
    both: int
    only_constrained: int
    only_unconstrained: int
    neither: int


@dataclass(frozen=True, kw_only=True)
class PairedSweep:
    """The cost of the constraint over gamma, and which gamma was chosen on the validation starts."""

    file: ClassVar[str] = "results/paired.json"
    chosen: float
    rows: tuple[PairedRow, ...]

    def __post_init__(self) -> None:
        if self.chosen not in [row.gamma for row in self.rows]:
            raise ValueError(f"the chosen gamma {self.chosen} is not in the sweep")


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """The checkpoint on the robot's wire.

    Attributes:
        robot: Which robot or twin, and over what.
        successes: Episodes that ended well.
        episodes: Episodes in all.
        period_s: The period the loop aimed at [s].
        periods_s: Measured time between the starts of two cycles [s].
        lateness_s: How late each cycle started [s].
        misses: Cycles that ended after the next one was due.
        stale_reads: Cycles that acted on a repeated reading.
    """

    file: ClassVar[str] = "results/deployment.json"
    robot: str
    successes: int
    episodes: int
    period_s: float
    periods_s: tuple[float, ...]
    lateness_s: tuple[float, ...]
    misses: int
    stale_reads: int

    def __post_init__(self) -> None:
        _check_counts(self.robot, (self.successes,), (self.episodes,))
        if not self.periods_s or not self.lateness_s or self.period_s <= 0:
            raise ValueError("a deployment needs a positive period and at least one measured cycle")


@dataclass(frozen=True, kw_only=True)
class Differences:
    """Every known difference between the training simulator and the twin, a sentence each."""

    file: ClassVar[str] = "results/differences.json"
    rows: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class TrainingLine:
    """One policy's value of a metric over training steps."""

    policy: str
    label: str
    steps: tuple[int, ...]
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.steps or len(self.steps) != len(self.values):
            raise ValueError(f"{self.label!r} has {len(self.steps)} steps and {len(self.values)} values")


@dataclass(frozen=True, kw_only=True)
class TrainingChart:
    """One metric of training.

    Attributes:
        title: For people, "Loss".
        unit: Of the values, ``"1"`` for a pure number.
        sentence: What it measures, in plain words.
        lines: One a policy.
    """

    title: str
    unit: str
    sentence: str
    lines: tuple[TrainingLine, ...]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How training went."""

    file: ClassVar[str] = "results/training.json"
    charts: tuple[TrainingChart, ...]


AnyRecord = Headline | Robustness | Certificate | PairedSweep | Deployment | Differences | Training
Kind = TypeVar("Kind", Headline, Robustness, Certificate, PairedSweep, Deployment, Differences, Training)


def save(run: Path, record: AnyRecord) -> None:
    """Write a record to its place in the run folder."""
    write_json(run / record.file, record)


def load(run: Path, kind: type[Kind]) -> Kind:
    """Read a record from its place. Raises `FermoError` that names the file when it is missing or not as declared."""
    path = run / kind.file
    if not path.is_file():
        raise FermoError(f"the report needs {path}, which does not exist; run again the stage that writes it")
    return from_json(kind, read_json(path), str(path))


def _check_counts(label: str, successes: tuple[int, ...], trials: tuple[int, ...]) -> None:
    if len(successes) != len(trials) or any(n < 1 or not 0 <= s <= n for s, n in zip(successes, trials, strict=False)):
        raise ValueError(f"{label!r} needs 0 <= successes <= trials, trials >= 1; got {successes} of {trials}")
