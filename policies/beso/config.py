"""Settings of `beso`; importing it does not load torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from fermo.errors import FermoError, unknown_name
from fermo.policies.behavior_cloning_config import require_positive

Density = Literal["log_logistic", "log_normal", "log_uniform", "uniform", "v_diffusion", "discrete", "split_log_normal"]
SamplerName = Literal["euler", "ddim", "heun", "dpm_2", "euler_ancestral", "dpmpp_2s", "dpmpp_2m", "dpmpp_sde", "lms"]
ScheduleName = Literal["karras", "exponential", "linear", "cosine", "vp", "ve"]
GoalKind = Literal["none", "future", "one_hot", "features"]
NoiseLevels = Literal["prefix", "streaming", "shared"]
Scaling = Literal["standard", "min_max", "none"]
CHURNING = ("euler", "ddim", "heun", "dpm_2")


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
class GoalConfig:
    """What the policy is told to reach, and how strongly it listens.

    Attributes:
        kind: ``"none"``; ``"future"``, observations of the same episode that lie ahead; ``"one_hot"``, a number that
            the dataset has in `column`; ``"features"``, a vector from there, such as an image's.
        signals: Of a future observation, those that count; all when empty. The others are told to be at their mean.
        frames: Successive future observations that make a goal.
        size: Numbers to choose from, or elements of the vector; unused by the other kinds.
        column: Extra column of the dataset that holds one-hot goals or features.
        dropout: Share of training samples whose goal is hidden, which teaches the goal-free policy.
        guidance: lambda in ``D = D_free + lambda (D_goal - D_free)``; 0 and 1 cost one network pass, others a doubled
            batch.
        guidance_interval: Noise levels between which `guidance` acts, 1 elsewhere; everywhere when None.
    """

    kind: GoalKind = "none"
    signals: tuple[str, ...] = ()
    frames: int = 1
    size: int = 0
    column: str = "goal"
    dropout: float = 0.1
    guidance: float = 1.0
    guidance_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _require_known("goal kind", self.kind, get_args(GoalKind))
        if self.frames < 1:
            raise FermoError(f"a goal has at least one frame, got {self.frames}")
        vector = self.kind in ("one_hot", "features")
        if vector and (self.size < 1 or self.frames != 1):
            raise FermoError(f"a {self.kind} goal needs its size and one frame, got {self.size} and {self.frames}")
        if self.signals and self.kind != "future":
            raise FermoError(f"goal signals belong to future goals, the kind is {self.kind}")
        if not 0 <= self.dropout < 1:
            raise FermoError(f"goal dropout must lie in [0, 1), got {self.dropout}")
        if not math.isfinite(self.guidance):
            raise FermoError(f"guidance must be finite, got {self.guidance}")
        if self.kind != "none" and self.guidance != 1 and self.dropout == 0:
            raise FermoError("guidance other than 1 needs the goal-free policy: give goal dropout above 0")
        if self.guidance_interval is not None and not 0 <= self.guidance_interval[0] < self.guidance_interval[1]:
            raise FermoError(f"guidance_interval must be two rising noise levels, got {self.guidance_interval}")


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Noise in training and its removal (Karras et al. 2022); levels are in units of the scaled actions.

    Attributes:
        density: Of the noise levels in training.
        location: Of ln sigma, for the densities that have one; ``ln sigma_data`` when None.
        scale: Width of ln sigma, for the densities that have one.
        scale_above: Width above the mode, for ``"split_log_normal"``.
        sigma_min: Smallest noise level.
        sigma_max: Largest noise level, from which sampling starts.
        sigma_data: Standard deviation of the scaled actions; measured when None.
        sampler: Integrator.
        schedule: Of the noise levels it visits.
        steps: How many; ``samplers.SAMPLERS`` says how often each evaluates the network.
        rho: Of Karras' schedule.
        churn: Noise added on the way, over all steps, relative to the level; for samplers that take it.
    """

    density: Density = "log_logistic"
    location: float | None = None
    scale: float = 0.5
    scale_above: float = 0.5
    sigma_min: float = 0.05
    sigma_max: float = 5.0
    sigma_data: float | None = None
    sampler: SamplerName | Literal["dpmpp_2m_sde"] = "ddim"
    schedule: ScheduleName | Literal["cosine_beta"] = "exponential"
    steps: int = 3
    rho: float = 5.0
    churn: float = 0.0

    def __post_init__(self) -> None:
        _require_known("noise density", self.density, get_args(Density))
        positive = {name: getattr(self, name) for name in ("scale", "scale_above", "sigma_min", "sigma_max", "rho")}
        require_positive(**positive | ({} if self.sigma_data is None else {"sigma_data": self.sigma_data}))
        if self.sigma_min >= self.sigma_max:
            raise FermoError(f"sigma_min {self.sigma_min} must lie below sigma_max {self.sigma_max}")
        if self.steps < 1:
            raise FermoError(f"steps must be at least 1, got {self.steps}")
        if self.churn < 0 or (self.churn and self.sampler not in CHURNING):
            takers = ", ".join(CHURNING)
            raise FermoError(f"churn {self.churn} does not suit {self.sampler}: give at least 0, to one of {takers}")


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Integration of a learned velocity from noise at t = 0 to actions at t = 1 (Lipman et al. 2023).

    Attributes:
        integrator: Euler's method evaluates the network once a step, the others twice.
        steps: Of equal length.
    """

    integrator: Literal["euler", "heun", "midpoint"] = "euler"
    steps: int = 5

    def __post_init__(self) -> None:
        _require_known("flow integrator", self.integrator, ("euler", "heun", "midpoint"))
        if self.steps < 1:
            raise FermoError(f"steps must be at least 1, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Defects:
    """What the released implementation of BESO does otherwise than its paper says, each for itself.

    `fermo.policies.beso.faithful` has them, and says of each what it does; all are off by default, and the preset
    ``faithful`` turns them on. Past actions that drift are not here but in ``noise_levels = "shared"``.

    Attributes:
        element_goal_mask: Goals are hidden element by element instead of sample by sample.
        truncated_goals: The last frame is never a goal, and near it the goal is a row of raw zeros.
        leaking_context: Nothing is forgotten between episodes.
        ignored_churn: Churn is accepted and has no effect.
        released_schedules: Schedules and sampler names as released.
        narrow_start: Sampling starts with noise alone, narrower than the noised actions it was trained on.
        width_ten_goals: Which elements of a goal count is decided by its width.
        shrinking_clip: Actions are clipped to 1.1 times the data's bounds, whatever their signs.
        swapped_average: The averaged weights are copied in and out at each prediction.
        decayed_everything: Weight decay acts on biases, positions and normalisation too.
    """

    element_goal_mask: bool = False
    truncated_goals: bool = False
    leaking_context: bool = False
    ignored_churn: bool = False
    released_schedules: bool = False
    narrow_start: bool = False
    width_ten_goals: bool = False
    shrinking_clip: bool = False
    swapped_average: bool = False
    decayed_everything: bool = False


@dataclass(frozen=True, kw_only=True)
class BesoConfig:
    """A diffusion policy (BESO, Reuss et al. 2023), or one of flow matching, over a window of the recent past.

    Attributes:
        context: Observations it sees, the latest included, with the actions taken between them.
        chunk: Actions one prediction covers, H; 1 is the paper's.
        execute: Of these, how many are carried out before the next prediction.
        stream: Predict bit by bit instead: the chunk stays, its later actions noisier, and each step ends one of them,
            at ``steps / chunk`` evaluations of the network, by Euler's method whatever the sampler.
        objective: ``"edm"``, denoising after Karras et al. 2022, or ``"flow"``, matching a velocity.
        noise_levels: ``"prefix"``: past actions stay clean in training and sampling, and any first part of a chunk may
            be given. ``"streaming"``: the rest of the chunk also gets levels that rise, as a streaming buffer has them.
            ``"shared"``: one level for the whole window; past actions, clean at first, are denoised along (the
            paper's).
        network: The transformer.
        goal: What to reach.
        diffusion: For the objective ``"edm"``.
        flow: For the objective ``"flow"``.
        observation_scaling: Per channel: to mean 0 and deviation 1, or to [-1, 1], or not at all.
        action_scaling: Likewise.
        seed: Of the initial weights and of the noise in sampling.
        defects: Of the released implementation.
    """

    context: int = 5
    chunk: int = 1
    execute: int = 1
    stream: bool = False
    objective: Literal["edm", "flow"] = "edm"
    noise_levels: NoiseLevels = "prefix"
    network: TransformerConfig = field(default_factory=TransformerConfig)
    goal: GoalConfig = field(default_factory=GoalConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    observation_scaling: Scaling = "standard"
    action_scaling: Scaling = "standard"
    seed: int = 0
    defects: Defects = field(default_factory=Defects)

    def __post_init__(self) -> None:
        if self.context < 1:
            raise FermoError(f"context must be at least 1, got {self.context}")
        if not 1 <= self.execute <= self.chunk:
            raise FermoError(f"execute must lie between 1 and the chunk's {self.chunk}, got {self.execute}")
        _require_known("objective", self.objective, ("edm", "flow"))
        _require_known("noise_levels", self.noise_levels, get_args(NoiseLevels))
        for scaling in (self.observation_scaling, self.action_scaling):
            _require_known("scaling", scaling, get_args(Scaling))
        if self.seed < 0:
            raise FermoError(f"seed must not be negative, got {self.seed}")
        if self.stream:
            self._check_stream()
        released = self.defects.released_schedules
        samplers = get_args(SamplerName) + (("dpmpp_2m_sde",) if released else ())
        schedules = get_args(ScheduleName) + (("cosine_beta",) if released else ())
        _require_known("sampler", self.diffusion.sampler, samplers)
        _require_known("noise schedule", self.diffusion.schedule, schedules)

    def _check_stream(self) -> None:
        steps = self.diffusion.steps if self.objective == "edm" else self.flow.steps
        if self.noise_levels != "streaming":
            raise FermoError(f"a stream needs noise_levels streaming in training, they are {self.noise_levels}")
        if steps % self.chunk or self.execute != 1:
            raise FermoError(f"a stream executes 1 and takes a multiple of chunk steps: got execute {self.execute}, "
                             f"chunk {self.chunk} and {steps} steps")  # fmt: skip
        if self.goal.guidance_interval is not None:
            raise FermoError("a stream's actions have all levels at once: leave guidance_interval out")


def _require_known(kind: str, name: str, choices: tuple[str, ...]) -> None:
    if name not in choices:
        raise unknown_name(kind, name, choices)
