"""Settings of `beso`; importing it does not load torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from fermo.errors import FermoError
from fermo.policies.behavior_cloning_config import require_positive
from fermo.policies.windowed.config import (
    Backbone,
    GoalSourceConfig,
    PerceptronConfig,
    TransformerConfig,
    WindowedConfig,
    require_known,
)

if TYPE_CHECKING:
    from torch import Tensor

Density = Literal["log_logistic", "log_normal", "log_uniform", "uniform", "v_diffusion", "discrete", "split_log_normal"]
SamplerName = Literal["euler", "ddim", "heun", "dpm_2", "euler_ancestral", "dpmpp_2s", "dpmpp_2m", "dpmpp_sde", "lms"]
ScheduleName = Literal["karras", "exponential", "linear", "cosine", "vp", "ve"]
ObjectiveName = Literal["edm", "ddpm", "flow", "consistency"]
NoiseLevels = Literal["prefix", "streaming", "shared"]
CHURNING = ("euler", "ddim", "heun", "dpm_2")


@dataclass(frozen=True, kw_only=True)
class GoalConfig(GoalSourceConfig):
    """What the policy is told to reach, and how strongly it listens.

    Attributes:
        guidance: lambda in ``D = D_free + lambda (D_goal - D_free)``; 0 and 1 cost one network pass, others a doubled
            batch.
        guidance_interval: The objective's levels between which `guidance` acts, 1 elsewhere; everywhere when None.
    """

    guidance: float = 1.0
    guidance_interval: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not math.isfinite(self.guidance):
            raise FermoError(f"guidance must be finite, got {self.guidance}")
        if self.kind != "none" and self.guidance != 1 and self.dropout == 0:
            raise FermoError("guidance other than 1 needs the goal-free policy: give goal dropout above 0")
        if self.guidance_interval is not None and not 0 <= self.guidance_interval[0] < self.guidance_interval[1]:
            raise FermoError(f"guidance_interval must be two rising noise levels, got {self.guidance_interval}")

    def guidance_at(self, level: float | Tensor) -> float:
        """The guidance lambda at a noise level."""
        interval = self.guidance_interval
        return self.guidance if interval is None or bool(interval[0] <= level <= interval[1]) else 1.0


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """Noise in training and its removal (Karras et al. 2022); levels are in units of the scaled actions.

    Attributes:
        density: Of the noise levels in training.
        location: Of ln sigma, for the densities that have one; ``ln sigma_data`` when None.
        scale: Width of ln sigma, for the densities that have one.
        scale_above: Width above the mode, for ``"split_log_normal"``.
        sigma_min: Smallest noise level of training.
        sigma_max: Largest noise level of training.
        sigma_data: Standard deviation of the scaled actions; measured when None.
        sampler: Integrator.
        schedule: Of the noise levels it visits.
        start: Level that sampling starts from, at most sigma_max; that itself when None.
        stop: Last level that it visits before 0, at least sigma_min; that itself when None. With few steps, a narrow
            range leaves more of them to the levels at which one of several ways is chosen.
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
    start: float | None = None
    stop: float | None = None
    steps: int = 3
    rho: float = 5.0
    churn: float = 0.0

    def __post_init__(self) -> None:
        require_known("noise density", self.density, get_args(Density))
        positive = {name: getattr(self, name) for name in ("scale", "scale_above", "sigma_min", "sigma_max", "rho")}
        require_positive(**positive | ({} if self.sigma_data is None else {"sigma_data": self.sigma_data}))
        if self.sigma_min >= self.sigma_max:
            raise FermoError(f"sigma_min {self.sigma_min} must lie below sigma_max {self.sigma_max}")
        lowest, highest = self.sampled
        if not self.sigma_min <= lowest < highest <= self.sigma_max:
            raise FermoError(f"sampling falls from start {highest} to stop {lowest}, through levels of training, "
                             f"{self.sigma_min} to {self.sigma_max}")  # fmt: skip
        if self.steps < 1:
            raise FermoError(f"steps must be at least 1, got {self.steps}")
        if self.churn < 0 or (self.churn and self.sampler not in CHURNING):
            takers = ", ".join(CHURNING)
            raise FermoError(f"churn {self.churn} does not suit {self.sampler}: give at least 0, to one of {takers}")

    @property
    def sampled(self) -> tuple[float, float]:
        """Lowest and highest level that sampling visits."""
        lowest = self.sigma_min if self.stop is None else self.stop
        return lowest, self.sigma_max if self.start is None else self.start


@dataclass(frozen=True, kw_only=True)
class DdpmConfig:
    """Noise added in discrete steps and taken out in as many or fewer (Ho et al. 2020; Chi et al. 2023).

    Attributes:
        training_steps: T, over which noise is added, by squared-cosine betas (Nichol and Dhariwal 2021).
        sampler: ``"ddpm"``, which draws noise at each step but the last, or ``"ddim"``, which draws none (Song et al.
            2021).
        steps: Of sampling, each an evaluation of the network; as many as T, or fewer.
        clip_sample: Keep the estimated clean action in the range of the demonstrated ones at each step; the first
            steps' estimates hold the network's error more than a thousandfold.
    """

    training_steps: int = 100
    sampler: Literal["ddpm", "ddim"] = "ddpm"
    steps: int = 100
    clip_sample: bool = True

    def __post_init__(self) -> None:
        if self.training_steps < 2:
            raise FermoError(f"training_steps must be at least 2, got {self.training_steps}")
        require_known("ddpm sampler", self.sampler, ("ddpm", "ddim"))
        if not 1 <= self.steps <= self.training_steps:
            raise FermoError(f"steps must lie between 1 and the training's {self.training_steps}, got {self.steps}")


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
        require_known("flow integrator", self.integrator, ("euler", "heun", "midpoint"))
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
class BesoConfig(WindowedConfig):
    """A diffusion policy (BESO, Reuss et al. 2023), or one of flow matching, over a window of the recent past.

    Attributes:
        context: Observations it sees, the latest included, with the actions taken between them.
        chunk: Actions one prediction covers, H; 1 is the paper's.
        stream: Predict bit by bit instead: the chunk stays, its later actions noisier, and each step ends one of them,
            at ``steps / chunk`` evaluations of the network, by Euler's method whatever the sampler.
        objective: ``"edm"``, denoising after Karras et al. 2022; ``"ddpm"``, epsilon prediction in discrete steps, as
            Diffusion Policy has it; ``"flow"``, matching a velocity; or ``"consistency"``, one step that is distilled
            from a policy of ``"edm"``.
        noise_levels: ``"prefix"``: past actions stay clean in training and sampling, and any first part of a chunk may
            be given. ``"streaming"``: the rest of the chunk also gets levels that rise, as a streaming buffer has them.
            ``"shared"``: one level for the whole window; past actions, clean at first, are denoised along (the
            paper's).
        backbone: ``"transformer"``, the paper's, or ``"perceptron"``, which reads all of a window at once and is
            many times as fast on a processor.
        network: The transformer.
        perceptron: The perceptron.
        goal: What to reach.
        diffusion: For the objectives ``"edm"`` and ``"consistency"``; sampler and schedule are the former's alone.
        ddpm: For the objective ``"ddpm"``.
        flow: For the objective ``"flow"``.
        defects: Of the released implementation.
    """

    stream: bool = False
    objective: ObjectiveName = "edm"
    noise_levels: NoiseLevels = "prefix"
    backbone: Backbone = "transformer"
    network: TransformerConfig = field(default_factory=TransformerConfig)
    perceptron: PerceptronConfig = field(default_factory=PerceptronConfig)
    goal: GoalConfig = field(default_factory=GoalConfig)
    diffusion: DiffusionConfig = field(default_factory=DiffusionConfig)
    ddpm: DdpmConfig = field(default_factory=DdpmConfig)
    flow: FlowConfig = field(default_factory=FlowConfig)
    defects: Defects = field(default_factory=Defects)

    def __post_init__(self) -> None:
        super().__post_init__()
        require_known("objective", self.objective, get_args(ObjectiveName))
        require_known("noise_levels", self.noise_levels, get_args(NoiseLevels))
        require_known("backbone", self.backbone, get_args(Backbone))
        if self.stream:
            self._check_stream()
        released = self.defects.released_schedules
        samplers = get_args(SamplerName) + (("dpmpp_2m_sde",) if released else ())
        schedules = get_args(ScheduleName) + (("cosine_beta",) if released else ())
        require_known("sampler", self.diffusion.sampler, samplers)
        require_known("noise schedule", self.diffusion.schedule, schedules)

    def _check_stream(self) -> None:
        if self.objective == "consistency":
            raise FermoError("a stream goes from level to level, which a consistency policy does not: leave stream out")
        steps = {"edm": self.diffusion, "ddpm": self.ddpm, "flow": self.flow}[self.objective].steps
        if self.noise_levels != "streaming":
            raise FermoError(f"a stream needs noise_levels streaming in training, they are {self.noise_levels}")
        if steps % self.chunk or self.execute != 1:
            raise FermoError(f"a stream executes 1 and takes a multiple of chunk steps: got execute {self.execute}, "
                             f"chunk {self.chunk} and {steps} steps")  # fmt: skip
        if self.goal.guidance_interval is not None:
            raise FermoError("a stream's actions have all levels at once: leave guidance_interval out")
