"""What policies share that see a window of the recent past: scalings, goals, memory, and chunks carried out in turn."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.base import Policy
from fermo.policies.window import Window
from fermo.policies.windowed.config import WindowedConfig
from fermo.policies.windowed.goals import Goals
from fermo.policies.windowed.memory import Memory
from fermo.policies.windowed.network import WindowNetwork
from fermo.policies.windowed.scaling import ActionClip, make_normalizer
from fermo.signal import PlantSpec


class WindowedPolicy(Policy):
    """A policy that acts on what it saw and did lately, and may be told a goal.

    `select_action` remembers what it saw and answered; `predict_action_chunk` does not, so it may be asked again. What
    chance there is in world i is a function of the config's seed, i, the episode and the step, whatever the other
    worlds are.

    Attributes:
        window: What a training sample holds.
        network: Reads scaled windows.
        goal: What `set_goal` was told, ``(N or 1, G, goal_size)``; None for the goal-free policy.
    """

    config: WindowedConfig
    window: Window
    network: WindowNetwork

    def __init__(self, spec: PlantSpec, config: WindowedConfig, *, goals: Goals | None = None,
                 clip: ActionClip | None = None) -> None:  # fmt: skip
        super().__init__(spec, config)
        self.observation_normalizer = make_normalizer(config.observation_scaling, spec.observations)
        self.action_normalizer = make_normalizer(config.action_scaling, spec.commands)
        self.goals = Goals(config.goal, spec) if goals is None else goals
        self.clip = ActionClip(spec) if clip is None else clip
        self.horizon = config.chunk
        self.window = Window(past=config.context, ahead=config.chunk, goal=self.goals.source())
        self.goal: Tensor | None = None
        self._memory: Memory | None = None

    # Training

    def fit_normalization(self, observations: Tensor, actions: Tensor) -> None:
        """Fit both scalings and the clipping bounds.

        Args:
            observations: Shape ``(M, observation_size)``, SI units.
            actions: Shape ``(M, command_size)`` or ``(M, 1, command_size)``.

        Raises:
            FermoError: The data are empty or hold NaN or infinity, or do not suit the config.
        """
        actions = actions.reshape(-1, self.spec.command_size)
        self.observation_normalizer.fit(observations)
        self.network.relations.fit(self.observation_normalizer)
        self.action_normalizer.fit(actions)
        self.clip.fit(actions)
        self._fit_scaled(self.action_normalizer(actions))

    def _fit_scaled(self, actions: Tensor) -> None:
        """Take what else there is to take of scaled actions, ``(M, command_size)``."""

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Biases, positions and normalisations."""
        return self.network.undecayed()

    def _scaled_window(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Scaled observations and which of them there are; scaled actions and which of them there are."""
        observations, actions = _timed(batch["observation"]), _timed(batch["action"])
        observed = batch.get("observed", observations.new_ones(observations.shape[:2], dtype=torch.bool))
        acted = batch.get("acted", actions.new_ones(actions.shape[:2], dtype=torch.bool))
        return self.observation_normalizer(observations), observed, self.action_normalizer(actions), acted

    def _training_goal(self, batch: dict[str, Tensor]) -> Tensor | None:
        if self.window.goal is None:
            return None
        if "goal" not in batch:
            raise FermoError(f"this policy learns from goals of kind {self.config.goal.kind}, and the batch has none")
        return self.goals.hide(self.goals.scaled(batch["goal"], self.observation_normalizer))

    def why_not_exportable(self) -> str | None:
        """It has memory."""
        return "remembers what it saw"

    def why_uncertified(self) -> str | None:
        """Its action hangs on more than an observation."""
        return "it acts on what it remembers, and the proofs here bound the slope of a map from one observation"

    # Acting

    def set_goal(self, goal: Tensor | None) -> None:
        """What to reach from now on; kept over resets. None asks for the goal-free policy.

        Args:
            goal: Shape ``(G, goal_size)`` for all worlds or ``(N, G, goal_size)``, in SI units; G may be left out when
                it is 1.

        Raises:
            FermoError: The goal is of another shape, holds NaN or infinity, or the policy knows no goals.
        """
        self.goal = None if goal is None else self.goals.check(goal)

    def reset(self, mask: Tensor | None = None) -> None:
        """Begin the next episode in the worlds of `mask`; with None begin anew, repeating the noise from its start."""
        if self._memory is not None and mask is not None and len(mask) == len(self._memory.left):
            self._memory.begin(mask)
        else:
            self._forget()

    def _forget(self) -> None:
        self._memory = None

    def select_action(self, obs: Tensor) -> Tensor:
        """The action to apply now, shape ``(N, command_size)``; it and `obs` are remembered."""
        memory = self._remembered(obs)
        action = self._next_action(obs, memory)
        memory.remember(obs, action)
        return action

    def _next_action(self, obs: Tensor, memory: Memory) -> Tensor:
        """From the chunk under way; a new one where it is over."""
        if self.config.execute == 1 or memory.due().any():
            memory.adopt(self.predict_action_chunk(obs)[:, : self.config.execute])
        return memory.next_action()

    def remember(self, obs: Tensor, action: Tensor) -> None:
        """For those who carry out chunks themselves: what was seen and what was done, after any safety limit."""
        self._remembered(obs).remember(obs, action)

    def _unscaled(self, action: Tensor) -> Tensor:
        return self.clip(self.action_normalizer.inverse(action))

    def _seen(self, obs: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Tensor | None]:
        """Scaled observations ``(N, T, .)``, which of them there are, and the scaled goal ``(N, G, .)``."""
        observations, observed = memory.seen(obs)
        return self.observation_normalizer(observations), observed, self._goal_of(len(obs))

    def _goal_of(self, worlds: int) -> Tensor | None:
        """What the network is told to reach, ``(N, G, .)``."""
        config = self.config.goal
        if self.window.goal is None:
            return None
        reference = self.observation_normalizer.mean
        if self.goal is None:
            if config.dropout == 0:
                raise FermoError("this policy always saw a goal (goal dropout 0), so it needs one: call set_goal first")
            return reference.new_zeros(worlds, config.frames, self.goals.size)
        if len(self.goal) not in (1, worlds):
            raise FermoError(f"the goal is for {len(self.goal)} worlds and there are {worlds}: call set_goal again")
        scaled = self.goals.scaled(self.goal.to(reference.device), self.observation_normalizer)
        return scaled.expand(worlds, -1, -1)

    def _remembered(self, obs: Tensor) -> Memory:
        """The memory of these worlds; another number of them, or another device, begins anew."""
        if self._memory is None or not self._memory.suits(obs):
            self._memory = self._blank_memory(obs.detach())
        return self._memory

    def _blank_memory(self, obs: Tensor) -> Memory:
        return Memory(obs, context=self.config.context, length=self.config.execute, action_size=self.spec.command_size)


def _timed(value: Tensor) -> Tensor:
    return value if value.ndim == 3 else value[:, None]


def weighted_mean(errors: Tensor, counted: Tensor, batch: dict[str, Tensor]) -> Tensor:
    """Mean of the errors ``(B, A)`` that count, under the samples' ``"weight"`` ``(B,)`` where the batch has it."""
    weights = counted * batch["weight"][:, None] if "weight" in batch else counted.to(errors.dtype)
    return (errors * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
