"""Settings of the reinforcement learners; importing it loads neither torch nor a learner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from fermo.errors import FermoError, unknown_name
from fermo.policies.behavior_cloning_config import Activation, require_positive


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """What every learner lets a user set.

    Attributes:
        hidden: Width of each hidden layer, of actor and critic alike.
        activation: Between the layers.
        lr: Learning rate.
        gamma: Discount a control step.
        log_every: Rounds of collecting and learning between two logged ones.
        checkpoint_every: Rounds between two saves; what a killed process loses at most.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: Activation = "tanh"
    lr: float = 3e-4
    gamma: float = 0.99
    log_every: int = 1
    checkpoint_every: int = 20

    def __post_init__(self) -> None:
        if not self.hidden or min(self.hidden) < 1:
            raise FermoError(f"hidden must name at least one positive width, got {self.hidden}")
        if self.activation == "groupsort":
            raise FermoError("the learners have no groupsort: choose relu or tanh")
        require_positive(lr=self.lr, log_every=self.log_every, checkpoint_every=self.checkpoint_every)
        for name in ("gamma", "gae_lambda", "tau"):
            value = getattr(self, name, 0.0)
            if not 0 <= value <= 1:
                raise FermoError(f"{name} must lie between 0 and 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class PpoConfig(LearnerConfig):
    """Proximal policy optimisation by rsl_rl (Schulman et al. 2017), for many worlds.

    Attributes:
        iterations: Rounds of collecting and learning.
        rollout_steps: Control steps of each world in a round.
        epochs: Passes over what a round collected.
        minibatches: Parts of a pass.
        lr: Learning rate, of the first round when the schedule is adaptive.
        schedule: Keep the learning rate, or steer it towards `desired_kl`.
        desired_kl: Divergence wanted between the policies before and after a round.
        clip: Largest change of the probability ratio, and of the value in units of the scaled reward.
        gae_lambda: Of generalised advantage estimation.
        entropy: Weight of the entropy bonus.
        value: Weight of the value loss.
        max_grad_norm: Longer gradients are shortened to this.
        init_std: First standard deviation of the actions, in half ranges of the commands.
        normalize_observations: Whether networks see observations by their running mean and deviation.
        reward_scale: Factor on every reward; returns around one suit the value loss.
        random_start: Whether the worlds' clocks begin apart, so that their episodes do not all end at once.
    """

    iterations: int = 300
    rollout_steps: int = 24
    epochs: int = 5
    minibatches: int = 4
    lr: float = 1e-3
    schedule: Literal["adaptive", "fixed"] = "adaptive"
    desired_kl: float = 0.01
    clip: float = 0.2
    gae_lambda: float = 0.95
    entropy: float = 0.0
    value: float = 1.0
    max_grad_norm: float = 1.0
    init_std: float = 1.0
    normalize_observations: bool = True
    reward_scale: float = 1.0
    random_start: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {name: getattr(self, name) for name in ("iterations", "rollout_steps", "epochs", "minibatches")}
        require_positive(**counts, desired_kl=self.desired_kl, clip=self.clip, max_grad_norm=self.max_grad_norm,
                         init_std=self.init_std, reward_scale=self.reward_scale)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Sb3PpoConfig(LearnerConfig):
    """Proximal policy optimisation by Stable-Baselines3, the yardstick.

    Attributes:
        steps: Control steps of all worlds together.
        rollout_steps: Control steps of each world in a round.
        batch_size: Samples a gradient step.
        epochs: Passes over what a round collected.
        gae_lambda: Of generalised advantage estimation.
        clip: Largest change of the probability ratio.
        entropy: Weight of the entropy bonus.
        value: Weight of the value loss.
        max_grad_norm: Longer gradients are shortened to this.
        log_std: First logarithm of the actions' standard deviation, in the commands' units.
        normalize: Whether observations and rewards are seen by their running statistics.
    """

    steps: int = 1_000_000
    rollout_steps: int = 256
    batch_size: int = 64
    epochs: int = 10
    gae_lambda: float = 0.95
    clip: float = 0.2
    entropy: float = 0.0
    value: float = 0.5
    max_grad_norm: float = 0.5
    log_std: float = 0.0
    normalize: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        counts = {name: getattr(self, name) for name in ("steps", "rollout_steps", "batch_size", "epochs")}
        require_positive(**counts, clip=self.clip, max_grad_norm=self.max_grad_norm)


@dataclass(frozen=True, kw_only=True)
class OffPolicyConfig(LearnerConfig):
    """What TD3 and SAC share; one round is one control step of every world.

    Attributes:
        steps: Control steps of all worlds together.
        buffer_size: Transitions remembered.
        batch_size: Samples a gradient step.
        learning_starts: Random control steps before the first gradient step.
        tau: Share of the networks that the targets take over at each gradient step.
        gradient_steps: After each round; -1 makes as many as the round had control steps.
    """

    hidden: tuple[int, ...] = (256, 256)
    activation: Activation = "relu"
    log_every: int = 250
    checkpoint_every: int = 2_500
    steps: int = 300_000
    buffer_size: int = 300_000
    batch_size: int = 256
    learning_starts: int = 10_000
    tau: float = 0.005
    gradient_steps: int = -1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(steps=self.steps, buffer_size=self.buffer_size, batch_size=self.batch_size)
        if self.learning_starts < 0 or self.gradient_steps == 0:
            raise FermoError("learning_starts must not be negative and gradient_steps not zero")


@dataclass(frozen=True, kw_only=True)
class Td3Config(OffPolicyConfig):
    """Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018), by Stable-Baselines3.

    Attributes:
        noise: Standard deviation of the exploration, in half ranges of the commands.
    """

    lr: float = 1e-3
    noise: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(noise=self.noise)


@dataclass(frozen=True, kw_only=True)
class SacConfig(OffPolicyConfig):
    """Soft actor-critic (Haarnoja et al. 2018) with a learned temperature, by Stable-Baselines3."""


AnyLearner: TypeAlias = PpoConfig | Sb3PpoConfig | Td3Config | SacConfig

LEARNERS: dict[str, type[AnyLearner]] = {"ppo": PpoConfig, "sb3_ppo": Sb3PpoConfig, "td3": Td3Config, "sac": SacConfig}
"""Config of each learner, by the name that ``fermo train`` takes."""


def learner_config(learner: str) -> type[AnyLearner]:
    """The learner's frozen config dataclass. Raises `FermoError` for an unknown name."""
    if learner not in LEARNERS:
        raise unknown_name("learner", learner, LEARNERS)
    return LEARNERS[learner]
