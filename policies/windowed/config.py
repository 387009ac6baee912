"""Settings that all policies with a window share; importing it does not load torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from fermo.errors import FermoError, unknown_name
from fermo.policies.behavior_cloning_config import Activation, require_perceptron

GoalKind = Literal["none", "future", "one_hot", "features"]
Scaling = Literal["standard", "min_max", "none"]
Backbone = Literal["perceptron", "transformer"]


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Size of a decoder-only transformer.

    Attributes:
        layers: Blocks of attention and perceptron.
        heads: Of the attention; they share the width.
        width: Of a token.
        attention_dropout: Share of attention weights dropped in training.
        residual_dropout: Share of what a block adds that is dropped in training.
    """

    layers: int = 4
    heads: int = 4
    width: int = 128
    attention_dropout: float = 0.05
    residual_dropout: float = 0.05

    def __post_init__(self) -> None:
        for name in ("layers", "heads", "width"):
            if getattr(self, name) < 1:
                raise FermoError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.width % self.heads:
            raise FermoError(f"heads share the width evenly: {self.heads} do not divide {self.width}")
        for name in ("attention_dropout", "residual_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise FermoError(f"{name} must lie in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class PerceptronConfig:
    """Size of a perceptron.

    Attributes:
        hidden: Width of each hidden layer; even for groupsort.
        activation: Between the layers.
    """

    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        require_perceptron(self.hidden, self.activation)


@dataclass(frozen=True, kw_only=True)
class GoalSourceConfig:
    """What the policy is told to reach, and how often training hides it.

    Attributes:
        kind: ``"none"``; ``"future"``, observations of the same episode that lie ahead; ``"one_hot"``, a number that
            the dataset has in `column`; ``"features"``, a vector from there, such as an image's.
        signals: Of a future observation, those that count; all when empty. The others are told to be at their mean.
        frames: Successive future observations that make a goal.
        size: Numbers to choose from, or elements of the vector; unused by the other kinds.
        column: Extra column of the dataset that holds one-hot goals or features.
        dropout: Share of training samples whose goal is hidden, which teaches the goal-free policy.
        ends: Share of training samples whose future goal is their episode's end; that of the others lies anywhere
            between now and there.
    """

    kind: GoalKind = "none"
    signals: tuple[str, ...] = ()
    frames: int = 1
    size: int = 0
    column: str = "goal"
    dropout: float = 0.1
    ends: float = 0.0

    def __post_init__(self) -> None:
        require_known("goal kind", self.kind, get_args(GoalKind))
        if self.frames < 1:
            raise FermoError(f"a goal has at least one frame, got {self.frames}")
        vector = self.kind in ("one_hot", "features")
        if vector and (self.size < 1 or self.frames != 1):
            raise FermoError(f"a {self.kind} goal needs its size and one frame, got {self.size} and {self.frames}")
        if self.signals and self.kind != "future":
            raise FermoError(f"goal signals belong to future goals, the kind is {self.kind}")
        if not 0 <= self.dropout < 1:
            raise FermoError(f"goal dropout must lie in [0, 1), got {self.dropout}")
        if not 0 <= self.ends <= 1 or (self.ends and self.kind != "future"):
            raise FermoError(f"ends is a share, 0 to 1, of future goals: got {self.ends} for goals of kind {self.kind}")


@dataclass(frozen=True, kw_only=True)
class RelationsConfig:
    """Numbers computed from an observation and the goal, which the network reads beside it; none by default.

    Attributes:
        differences: Pairs of signals of one size and unit; the network reads the first less the second.
        goal_offset: It reads how far a future goal is, in the elements of it that count.
        harmonics: K: of each difference and offset x, in deviations, it also reads the sine and cosine of 2^k x for
            k < K, which tell apart what lies close (Mildenhall et al. 2020, eq. 4).
        symmetries: Signals that are angles, each with the n of its n-fold symmetry: it reads sine and cosine of n times
            the angle.
    """

    differences: tuple[tuple[str, str], ...] = ()
    goal_offset: bool = False
    harmonics: int = 0
    symmetries: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if self.harmonics < 0:
            raise FermoError(f"harmonics must not be negative, got {self.harmonics}")
        for name, fold in self.symmetries:
            if fold < 1:
                raise FermoError(f"{name} has an n-fold symmetry with n at least 1, got {fold}")


@dataclass(frozen=True, kw_only=True)
class WindowedConfig:
    """What a policy sees, how far it looks ahead, what it is told to reach, and in which units.

    Attributes:
        context: Observations it sees, the latest included.
        chunk: Actions one prediction covers, H.
        execute: Of these, how many are carried out before the next prediction.
        goal: What to reach.
        relations: What the network reads beside an observation.
        observation_scaling: Per channel: to mean 0 and deviation 1, or to [-1, 1], or not at all.
        action_scaling: Likewise.
        seed: Of the initial weights and of the noise in acting.
    """

    context: int = 5
    chunk: int = 1
    execute: int = 1
    goal: GoalSourceConfig = field(default_factory=GoalSourceConfig)
    relations: RelationsConfig = field(default_factory=RelationsConfig)
    observation_scaling: Scaling = "standard"
    action_scaling: Scaling = "standard"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.context < 1:
            raise FermoError(f"context must be at least 1, got {self.context}")
        if not 1 <= self.execute <= self.chunk:
            raise FermoError(f"execute must lie between 1 and the chunk's {self.chunk}, got {self.execute}")
        for scaling in (self.observation_scaling, self.action_scaling):
            require_known("scaling", scaling, get_args(Scaling))
        if self.relations.goal_offset and self.goal.kind != "future":
            raise FermoError(f"goal_offset is how far a future goal is, and the goal's kind is {self.goal.kind}: leave "
                             "it out, or take goals of kind future")  # fmt: skip
        if self.seed < 0:
            raise FermoError(f"seed must not be negative, got {self.seed}")


def require_known(kind: str, name: str, choices: tuple[str, ...]) -> None:
    """Raise `FermoError` that names the choices when `name` is none of them."""
    if name not in choices:
        raise unknown_name(kind, name, choices)
