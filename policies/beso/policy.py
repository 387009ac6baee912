"""Actions sampled by a diffusion or flow over a window of the recent past, conditioned on goals (Reuss et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import torch
from torch import Tensor, nn

from fermo.errors import FermoError
from fermo.policies.base import ChunkPolicy, HalfPrecision
from fermo.policies.beso.compiled import CompiledSamplers
from fermo.policies.beso.completion import CleanPast, Completion, DriftingPast
from fermo.policies.beso.config import BesoConfig
from fermo.policies.beso.consistency import Consistency
from fermo.policies.beso.ddpm import Ddpm
from fermo.policies.beso.faithful import LeakingMemory, ReleasedDiffusion, ReleasedGoals, ShrinkingClip, SwappedAverage
from fermo.policies.beso.flow import FlowMatching
from fermo.policies.beso.noise_levels import NOISE_LEVELS
from fermo.policies.beso.objective import Objective
from fermo.policies.beso.perceptron import ActionPerceptron
from fermo.policies.beso.situation import Situation
from fermo.policies.beso.streaming import streamed_action
from fermo.policies.beso.transformer import ActionTransformer
from fermo.policies.windowed.goals import Goals
from fermo.policies.windowed.memory import Memory
from fermo.policies.windowed.policy import WindowedPolicy, weighted_mean
from fermo.policies.windowed.relations import Relations
from fermo.policies.windowed.scaling import ActionClip
from fermo.policies.windowed.world_noise import Noise, keyed_noise
from fermo.signal import PlantSpec

ConditionedNetwork = Callable[[Tensor, float | Tensor], Tensor]
"""The network's answers for what is sampled, at one level for all of it or one an action."""


class BesoPolicy(WindowedPolicy, ChunkPolicy):
    """Noise becomes a chunk of actions that fits what was seen, what was done and what is to be reached.

    Attributes:
        objective: What the network learns, and how actions come of it.
        network: Reads scaled windows and noised actions.
        average: Averaged weights beside the last ones; None where they simply are the weights.
    """

    family: ClassVar[str] = "beso"
    config: BesoConfig
    network: ActionTransformer | ActionPerceptron

    def __init__(self, spec: PlantSpec, config: BesoConfig) -> None:
        goals = ReleasedGoals(config.goal, spec, config.defects)
        clip = ShrinkingClip(spec) if config.defects.shrinking_clip else ActionClip(spec)
        super().__init__(spec, config, goals=goals, clip=clip)
        self.objective = _objective(spec, config)
        self.network = _network(spec, config, goals)
        self.average = SwappedAverage(self.network) if config.defects.swapped_average else None
        self._compiled = CompiledSamplers()

    # Training

    def _fit_scaled(self, actions: Tensor) -> None:
        self.objective.fit(actions)

    def undecayed_parameters(self) -> list[nn.Parameter]:
        """Biases, positions and normalisations."""
        return [] if self.config.defects.decayed_everything else super().undecayed_parameters()

    def take_average(self, average: list[Tensor]) -> None:
        """Copy the averaged weights in, once."""
        if self.average is None:
            super().take_average(average)
        else:
            self.average.take(average)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective's regression error, over the noised actions of each window; randomness is torch's current one.

        Args:
            batch: As of `fermo.policies.window.Window`.
        """
        observations, observed, clean, acted = self._scaled_window(batch)
        levels, noise = NOISE_LEVELS[self.config.noise_levels](self.objective, clean), torch.randn_like(clean)
        noised = self.objective.noised(clean, noise, levels)
        answers = self.network(
            self.objective.network_input(noised, levels), self.objective.network_level(levels),
            observations, observed, self._training_goal(batch),
        )  # fmt: skip
        error = (answers - self.objective.network_target(clean, noise, levels)).square().mean(-1)
        loss = weighted_mean(error, (levels > 0) & acted, batch)
        return loss, {"loss": loss.detach()}

    def why_not_exportable(self) -> str | None:
        """It has memory and chance."""
        return "remembers what it saw and draws noise"

    def why_uncertified(self) -> str | None:
        """Its action is drawn and not computed."""
        return "it draws its actions from a distribution, and the proofs here bound the slope of one map"

    # Acting

    def _forget(self) -> None:
        if not self.config.defects.leaking_context:
            super()._forget()

    def _next_action(self, obs: Tensor, memory: Memory) -> Tensor:
        return self._streamed(obs, memory) if self.config.stream else super()._next_action(obs, memory)

    def predict_action_chunk(self, obs: Tensor, prefix: Tensor | None = None) -> Tensor:
        """The next H actions, shape ``(N, H, command_size)``, differentiable in `obs`; nothing is remembered.

        Args:
            obs: Shape ``(N, observation_size)``, SI units.
            prefix: Its first d actions where they are decided already, ``(N, d, command_size)`` with ``d <= H``,
                because a robot carries them out while the rest is computed. They come back unchanged.

        Raises:
            FermoError: The prefix does not fit, or the goal is missing or for another number of worlds.
        """
        situation = self._situation(obs, self._remembered(obs), prefix)
        if not self._compiled or obs.requires_grad:
            chunk = self.chunk_in(situation, self.noise_of(situation))
        else:
            chunk = self._compiled.chunk(situation, guided=self._guided_now())
        return chunk if prefix is None else torch.cat([prefix.to(chunk.dtype), chunk[:, prefix.shape[1] :]], dim=1)

    def chunk_in(self, situation: Situation, noise: Noise) -> Tensor:
        """The next H actions, ``(N, H, command_size)``, SI units; a pure function of tensors, as compilers want it."""
        completion = self._completion(situation)
        with self.averaged():
            return self._unscaled(self._sampled(self._network(situation, completion), completion, noise))

    def noise_of(self, situation: Situation) -> Noise:
        """What is drawn for these worlds in these moments."""
        return keyed_noise(self.config.seed, situation.episode, situation.step)

    def compile_sampler(self, worlds: int, *, half: HalfPrecision | None = None) -> None:
        """See `Policy.compile_sampler`; with the weights, averaged ones where there are such, and guidance of now."""
        if self.config.stream:
            raise FermoError("a stream takes a share of its steps each time and is not compiled: leave stream out")
        with self.averaged():
            self._compiled.add(self, worlds, guided=self._guided_now(), half=half)

    def _guided_now(self) -> bool:
        return self.goal is not None and self.config.goal.guidance != 1

    def why_no_prefix(self) -> str | None:
        """Trained with one noise level for all, it has never seen clean actions beside noisy ones."""
        if self.config.noise_levels != "shared":
            return None
        return "a prefix needs a policy trained with noise_levels prefix or streaming, not shared"

    def _streamed(self, obs: Tensor, memory: Memory) -> Tensor:
        situation = self._situation(obs, memory, None)
        completion, noise = self._completion(situation), self.noise_of(situation)
        network = self._network(situation, completion)
        fresh = lambda: self._sampled(network, completion, noise)  # noqa: E731
        with self.averaged():
            return self._unscaled(streamed_action(self.objective, network, memory, noise, fresh))

    def averaged(self) -> AbstractContextManager[None]:
        """The network has the weights to act with inside the block: averaged ones where they lie beside the last."""
        return nullcontext() if self.average is None else self.average.within(self.network)

    def _sampled(self, network: ConditionedNetwork, completion: Completion, noise: Noise) -> Tensor:
        """A scaled chunk, ``(N, H, command_size)``."""
        blank = completion.past.new_empty(len(completion.past), self.horizon, self.spec.command_size)
        x = completion.begin(self.objective.start(noise(blank)))
        return completion.chunk(self.objective.sample(network, x, noise))

    def _network(self, situation: Situation, completion: Completion) -> ConditionedNetwork:
        """The network given what the worlds saw and did, and their goals."""
        states = self.observation_normalizer(situation.observations)

        def network(x: Tensor, level: float | Tensor) -> Tensor:
            guidance = 1.0 if self.goal is None else self.config.goal.guidance_at(level)
            given = *completion.window(x, level), states, situation.observed, situation.goal
            return completion.own(self.guided_answers(*given, guidance))

        return network

    def guided_answers(self, actions: Tensor, levels: Tensor, states: Tensor, observed: Tensor, goal: Tensor | None,
                       guidance: float) -> Tensor:  # fmt: skip
        """The network's answers with ``F_free + lambda (F_goal - F_free)``, which D follows linearly.

        Args:
            actions: Noised, scaled, ``(N, A, action_size)``.
            levels: Their noise levels, ``(N, A)``.
            states: Scaled observations, ``(N, T, observation_size)``.
            observed: Which of them there are, ``(N, T)`` bool.
            goal: Scaled, ``(N, G, goal_size)``; None without goals.
            guidance: lambda.
        """
        given = self.objective.network_input(actions, levels), self.objective.network_level(levels), states, observed
        if goal is None or guidance == 1:
            return self.network(*given, goal)
        free = torch.zeros_like(goal)
        if guidance == 0:
            return self.network(*given, free)
        both = self.network(*(torch.cat([part, part]) for part in given), torch.cat([free, goal]))
        unguided, guided = both.chunk(2)
        return unguided + guidance * (guided - unguided)

    def _situation(self, obs: Tensor, memory: Memory, prefix: Tensor | None) -> Situation:
        worlds, size = len(obs), self.spec.command_size
        prefix = memory.actions.new_zeros(worlds, 0, size) if prefix is None else self._checked(prefix, worlds)
        left = self.horizon - prefix.shape[1]
        padded = torch.cat([prefix, prefix.new_zeros(worlds, left, size)], dim=1)
        decided = torch.arange(self.horizon, device=obs.device) < prefix.shape[1]
        return Situation(*memory.seen(obs), memory.actions, self._goal_of(worlds), padded, decided, memory.episode,
                         memory.step)  # fmt: skip

    def blank_situation(self, worlds: int) -> Situation:
        """Zeros of the shapes that so many worlds have, on the policy's device."""
        obs = self.observation_normalizer.mean.new_zeros(worlds, self.spec.observation_size)
        return self._situation(obs, self._blank_memory(obs), None)

    def _checked(self, prefix: Tensor, worlds: int) -> Tensor:
        size = self.spec.command_size
        if problem := self.why_no_prefix():
            raise FermoError(problem)
        if prefix.ndim != 3 or (len(prefix), prefix.shape[2]) != (worlds, size) or prefix.shape[1] > self.horizon:
            needed = f"({worlds}, d, {size}) with d up to {self.horizon}"
            raise FermoError(f"the prefix has shape {tuple(prefix.shape)}, it must have {needed}")
        return prefix

    def _completion(self, situation: Situation) -> Completion:
        past = self.action_normalizer(situation.actions)
        if self.config.noise_levels == "shared":
            return DriftingPast(past)
        return CleanPast(past, self.action_normalizer(situation.prefix), situation.decided)

    def _blank_memory(self, obs: Tensor) -> Memory:
        kind = LeakingMemory if self.config.defects.leaking_context else Memory
        length = self.config.chunk if self.config.stream else self.config.execute
        return kind(obs, context=self.config.context, length=length, action_size=self.spec.command_size)


def _objective(spec: PlantSpec, config: BesoConfig) -> Objective:
    match config.objective:
        case "edm":
            return ReleasedDiffusion(config.diffusion, config.defects)
        case "ddpm":
            return Ddpm(config.ddpm, spec.command_size)
        case "consistency":
            return Consistency(config.diffusion)
        case "flow":
            return FlowMatching(config.flow)


def _network(spec: PlantSpec, config: BesoConfig, goals: Goals) -> ActionTransformer | ActionPerceptron:
    sizes = {"relations": Relations(config.relations, spec, config.goal), "action_size": spec.command_size,
             "context": config.context, "chunk": config.chunk, "goal_frames": goals.frames,
             "goal_size": goals.vector_size}  # fmt: skip
    generator = torch.Generator().manual_seed(config.seed)
    if config.backbone == "perceptron":
        return ActionPerceptron(config.perceptron, **sizes, generator=generator)
    per_action = config.noise_levels != "shared"
    return ActionTransformer(config.network, **sizes, level_per_action=per_action, generator=generator)
