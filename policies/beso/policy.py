"""Actions sampled by a diffusion or flow over a window of the recent past, conditioned on goals (Reuss et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.base import ChunkPolicy
from fermo.policies.beso.completion import CleanPast, Completion, DriftingPast
from fermo.policies.beso.config import BesoConfig
from fermo.policies.beso.faithful import LeakingMemory, ReleasedDiffusion, ReleasedGoals, ShrinkingClip, SwappedAverage
from fermo.policies.beso.flow import FlowMatching
from fermo.policies.beso.goals import guidance_at
from fermo.policies.beso.memory import Memory
from fermo.policies.beso.noise_levels import NOISE_LEVELS
from fermo.policies.beso.objective import Objective
from fermo.policies.beso.samplers import Noise
from fermo.policies.beso.scaling import ActionClip, make_normalizer
from fermo.policies.beso.streaming import streamed_action
from fermo.policies.beso.transformer import ActionTransformer
from fermo.policies.window import ColumnGoal, FutureGoal, Window
from fermo.signal import PlantSpec

ConditionedNetwork = Callable[[Tensor, float | Tensor], Tensor]
"""The network's answers for what is sampled, at one level for all of it or one an action."""


class BesoPolicy(ChunkPolicy):
    """Noise becomes a chunk of actions that fits what was seen, what was done and what is to be reached.

    `select_action` remembers what it saw and answered; `predict_action_chunk` does not, so it may be asked again. The
    noise of world i is a function of the config's seed, i, the episode and the step, whatever the other worlds are.

    Attributes:
        window: What a training sample holds.
        goal: Scaled goal of each world, or one for all, ``(N or 1, G, goal_size)``; None for the goal-free policy.
    """

    family: ClassVar[str] = "beso"
    config: BesoConfig
    window: Window

    def __init__(self, spec: PlantSpec, config: BesoConfig) -> None:
        super().__init__(spec, config)
        self.horizon = config.chunk
        self.window = Window(past=config.context, ahead=config.chunk, goal=_window_goal(config))
        self.observation_normalizer = make_normalizer(config.observation_scaling, spec.observations)
        self.action_normalizer = make_normalizer(config.action_scaling, spec.commands)
        self.goals = ReleasedGoals(config.goal, spec, config.defects)
        self.clip = ShrinkingClip(spec) if config.defects.shrinking_clip else ActionClip(spec)
        self.objective = _objective(config)
        self.network = _network(spec, config)
        self.average = SwappedAverage(self.network) if config.defects.swapped_average else None
        self.goal: Tensor | None = None
        self._memory: Memory | None = None

    # Training

    def fit_normalization(self, observations: Tensor, actions: Tensor) -> None:
        """Fit both scalings, the clipping bounds and, in diffusion, sigma_data.

        Args:
            observations: Shape ``(M, observation_size)``, SI units.
            actions: Shape ``(M, command_size)`` or ``(M, 1, command_size)``.

        Raises:
            FermoError: The data are empty or hold NaN or infinity, or the noise levels do not suit their spread.
        """
        actions = actions.reshape(-1, self.spec.command_size)
        self.observation_normalizer.fit(observations)
        self.action_normalizer.fit(actions)
        self.clip.fit(actions)
        self.objective.fit(self.action_normalizer(actions))

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Biases, positions and normalisations."""
        return [] if self.config.defects.decayed_everything else self.network.undecayed()

    def take_average(self, average: list[Tensor]) -> None:
        """Copy the averaged weights in, once."""
        if self.average is None:
            super().take_average(average)
        else:
            self.average.take(average)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective's regression error, over the noised actions of each window; randomness is torch's current one.

        Args:
            batch: As of `Window`: ``"observation"`` ``(B, T, .)``, ``"action"`` ``(B, T + H - 1, .)`` and, where they
                are not all true, ``"observed"`` ``(B, T)`` and ``"acted"`` ``(B, T + H - 1)``; ``"goal"``
                ``(B, G, .)`` for a policy with goals, ``"weight"`` ``(B,)`` if any. An observation without time,
                ``(B, .)``, is an episode's first.
        """
        observations, actions = _timed(batch["observation"]), _timed(batch["action"])
        observed = batch.get("observed", observations.new_ones(observations.shape[:2], dtype=torch.bool))
        clean = self.action_normalizer(actions)
        levels, noise = NOISE_LEVELS[self.config.noise_levels](self.objective, clean), torch.randn_like(clean)
        noised = self.objective.noised(clean, noise, levels)
        answers = self.network(
            self.objective.network_input(noised, levels), self.objective.network_level(levels),
            self.observation_normalizer(observations), observed, self._training_goal(batch),
        )  # fmt: skip
        error = (answers - self.objective.network_target(clean, noise, levels)).square().mean(-1)
        counted = (levels > 0) & batch.get("acted", torch.ones_like(levels, dtype=torch.bool))
        weights = counted * batch["weight"][:, None] if "weight" in batch else counted.to(error.dtype)
        loss = (error * weights).sum() / weights.sum().clamp_min(torch.finfo(weights.dtype).tiny)
        return loss, {"loss": loss.detach()}

    def _training_goal(self, batch: dict[str, Tensor]) -> Tensor | None:
        if self.window.goal is None:
            return None
        if "goal" not in batch:
            raise FermoError(f"this policy learns from goals of kind {self.config.goal.kind}, and the batch has none")
        return self.goals.hide(self.goals.scaled(batch["goal"], self.observation_normalizer))

    def why_not_exportable(self) -> str | None:
        """It has memory and chance."""
        return "remembers what it saw and draws noise"

    def why_uncertified(self) -> str | None:
        """Its action is drawn and not computed."""
        return "it draws its actions from a distribution, and the proofs here bound the slope of one map"

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
        elif not self.config.defects.leaking_context:
            self._memory = None

    def select_action(self, obs: Tensor) -> Tensor:
        """The action to apply now, shape ``(N, command_size)``; it and `obs` are remembered."""
        memory = self._remembered(obs)
        if self.config.stream:
            action = self._streamed(obs, memory)
        else:
            if self.config.execute == 1 or memory.due().any():
                memory.adopt(self.predict_action_chunk(obs)[:, : self.config.execute])
            action = memory.next_action()
        memory.remember(obs, action)
        return action

    def remember(self, obs: Tensor, action: Tensor) -> None:
        """For those who carry out chunks themselves: what was seen and what was done, after any safety limit."""
        self._remembered(obs).remember(obs, action)

    def predict_action_chunk(self, obs: Tensor, prefix: Tensor | None = None) -> Tensor:
        """The next H actions, shape ``(N, H, command_size)``, differentiable in `obs`; nothing is remembered.

        Args:
            obs: Shape ``(N, observation_size)``, SI units.
            prefix: Its first d actions where they are decided already, ``(N, d, command_size)`` with ``d <= H``,
                because a robot carries them out while the rest is computed. They come back unchanged.

        Raises:
            FermoError: The prefix does not fit, or the goal is missing or for another number of worlds.
        """
        memory = self._remembered(obs)
        completion, noise = self._completion(memory, prefix), memory.noise(self.config.seed)
        with self._averaged():
            chunk = self._unscaled(self._sampled(self._network(obs, memory, completion), completion, noise))
        return chunk if prefix is None else torch.cat([prefix.to(chunk.dtype), chunk[:, prefix.shape[1] :]], dim=1)

    def why_no_prefix(self) -> str | None:
        """Trained with one noise level for all, it has never seen clean actions beside noisy ones."""
        if self.config.noise_levels != "shared":
            return None
        return "a prefix needs a policy trained with noise_levels prefix or streaming, not shared"

    def _streamed(self, obs: Tensor, memory: Memory) -> Tensor:
        completion, noise = self._completion(memory, None), memory.noise(self.config.seed)
        network = self._network(obs, memory, completion)
        fresh = lambda: self._sampled(network, completion, noise)  # noqa: E731
        with self._averaged():
            return self._unscaled(streamed_action(self.objective, network, memory, noise, fresh))

    def _averaged(self) -> AbstractContextManager[None]:
        return nullcontext() if self.average is None else self.average.within(self.network)

    def _sampled(self, network: ConditionedNetwork, completion: Completion, noise: Noise) -> Tensor:
        """A scaled chunk, ``(N, H, command_size)``."""
        blank = completion.past.new_empty(len(completion.past), self.horizon, self.spec.command_size)
        x = completion.begin(self.objective.start(noise(blank)))
        return completion.chunk(self.objective.sample(network, x, noise))

    def _unscaled(self, action: Tensor) -> Tensor:
        return self.clip(self.action_normalizer.inverse(action))

    def _network(self, obs: Tensor, memory: Memory, completion: Completion) -> ConditionedNetwork:
        """The network given what the worlds saw and did, and their goals."""
        observations, observed = memory.seen(obs)
        states, goal = self.observation_normalizer(observations), self._goal_of(len(obs))

        def network(x: Tensor, level: float | Tensor) -> Tensor:
            guidance = 1.0 if self.goal is None else guidance_at(self.config.goal, level)
            return completion.own(self._guided(*completion.window(x, level), states, observed, goal, guidance))

        return network

    def _guided(self, actions: Tensor, levels: Tensor, states: Tensor, observed: Tensor, goal: Tensor | None,
                guidance: float) -> Tensor:  # fmt: skip
        """The network's answer with ``F_free + lambda (F_goal - F_free)``, which D follows linearly."""
        given = self.objective.network_input(actions, levels), self.objective.network_level(levels), states, observed
        if goal is None or guidance == 1:
            return self.network(*given, goal)
        free = torch.zeros_like(goal)
        if guidance == 0:
            return self.network(*given, free)
        both = self.network(*(torch.cat([part, part]) for part in given), torch.cat([free, goal]))
        unguided, guided = both.chunk(2)
        return unguided + guidance * (guided - unguided)

    def _completion(self, memory: Memory, prefix: Tensor | None) -> Completion:
        scaled = self.action_normalizer(memory.actions)
        if prefix is not None and (problem := self.why_no_prefix()):
            raise FermoError(problem)
        if self.config.noise_levels == "shared":
            return DriftingPast(scaled)
        if prefix is None:
            return CleanPast(scaled)
        worlds, size = len(scaled), self.spec.command_size
        if prefix.ndim != 3 or (len(prefix), prefix.shape[2]) != (worlds, size) or prefix.shape[1] > self.horizon:
            needed = f"({worlds}, d, {size}) with d up to {self.horizon}"
            raise FermoError(f"the prefix has shape {tuple(prefix.shape)}, it must have {needed}")
        return CleanPast(scaled, self.action_normalizer(prefix))

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
            kind = LeakingMemory if self.config.defects.leaking_context else Memory
            length = self.config.chunk if self.config.stream else self.config.execute
            self._memory = kind(obs.detach(), context=self.config.context, length=length,
                                action_size=self.spec.command_size)  # fmt: skip
        return self._memory


def _timed(value: Tensor) -> Tensor:
    return value if value.ndim == 3 else value[:, None]


def _window_goal(config: BesoConfig) -> FutureGoal | ColumnGoal | None:
    goal = config.goal
    if goal.kind == "none":
        return None
    if goal.kind == "future":
        return FutureGoal(frames=goal.frames, truncated=config.defects.truncated_goals)
    return ColumnGoal(name=goal.column, size=goal.size, one_hot=goal.kind == "one_hot")


def _objective(config: BesoConfig) -> Objective:
    if config.objective == "flow":
        return FlowMatching(config.flow)
    return ReleasedDiffusion(config.diffusion, config.defects)


def _network(spec: PlantSpec, config: BesoConfig) -> ActionTransformer:
    goal = config.goal
    return ActionTransformer(
        config.network, observation_size=spec.observation_size, action_size=spec.command_size, context=config.context,
        chunk=config.chunk, goal_frames=0 if goal.kind == "none" else goal.frames,
        goal_size=goal.size if goal.kind in ("one_hot", "features") else None,
        level_per_action=config.noise_levels != "shared", generator=torch.Generator().manual_seed(config.seed),
    )  # fmt: skip
