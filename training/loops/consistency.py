"""A one-step student of a diffusion policy, as the cloning loop trains it (Song et al. 2023, algorithm 2)."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.func import functional_call

from fermo.errors import FermoError
from fermo.policies.beso.config import BesoConfig
from fermo.policies.beso.consistency import Consistency
from fermo.policies.beso.diffusion import Diffusion
from fermo.policies.beso.noise_levels import NOISE_LEVELS
from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.beso.preconditioning import coefficients
from fermo.policies.windowed.policy import weighted_mean
from fermo.training.loops.distill_config import DistillConfig

Seen = tuple[Tensor, Tensor, Tensor | None]
"""Scaled observations, which of them there are, and scaled goals."""


def student_config(teacher: BesoConfig) -> BesoConfig:
    """One step, no dropout, and guidance inside: what the teacher does with its guidance, the student does plainly.

    Raises:
        FermoError: The teacher is no diffusion of EDM's, or samples in a way that no single step stands for.
    """
    if teacher.objective != "edm":
        raise FermoError(f"a one-step student is distilled from objective edm, this policy has {teacher.objective}")
    if teacher.stream or teacher.goal.guidance_interval is not None:
        raise FermoError("a student stands for whole samples under one guidance: leave stream and guidance_interval "
                         "out")  # fmt: skip
    return replace(
        teacher, objective="consistency", diffusion=replace(teacher.diffusion, steps=1),
        goal=replace(teacher.goal, guidance=1.0), defects=replace(teacher.defects, swapped_average=False),
        network=replace(teacher.network, attention_dropout=0.0, residual_dropout=0.0),
    )  # fmt: skip


class ConsistencyStudent(BesoPolicy):
    """A student in training; `finished` is the policy it has become.

    The loss is the distance between f at a level of the noised actions, and the average student's f at the next lower
    level of where the teacher's step leads from there. At the lowest level f is the identity, and so level by level it
    becomes the end of the teacher's trajectory.

    Args:
        teacher: A trained policy of objective edm; only asked, without gradients, and not saved with the student.
        loop: Says between which levels, by which solver.
    """

    def __init__(self, teacher: BesoPolicy, loop: DistillConfig) -> None:
        super().__init__(teacher.spec, student_config(teacher.config))
        self._teacher, self._loop = (teacher.eval().requires_grad_(False),), loop  # a tuple is no submodule
        with teacher.averaged():
            weights = {name: value.clone() for name, value in teacher.state_dict().items()
                       if not name.startswith("average.")}  # fmt: skip
        self.load_state_dict(weights)
        self.consistency.discretise(loop.levels)
        for index, parameter in enumerate(self.network.parameters()):
            self.register_buffer(f"target_{index}", parameter.detach().clone())

    @property
    def consistency(self) -> Consistency:
        """The objective."""
        assert isinstance(self.objective, Consistency)
        return self.objective

    def fit_normalization(self, observations: Tensor, actions: Tensor) -> None:
        """Nothing: scalings and bounds are the teacher's."""

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The distance, over the noised actions of each window; randomness is torch's current one.

        Args:
            batch: As of `fermo.policies.window.Window`.
        """
        if self.training:
            self._follow()
        observations, observed, clean, acted = self._scaled_window(batch)
        seen = observations, observed, self._training_goal(batch)
        level = NOISE_LEVELS[self.config.noise_levels](self.consistency, clean)
        lower = self.consistency.following(level)
        noised = self.consistency.noised(clean, torch.randn_like(clean), level)
        with torch.no_grad():
            wanted = self._end(self._stepped(noised, level, lower, seen), lower, seen, self._target())
        found = self._end(noised, level, seen, dict(self.network.named_parameters()))
        c = self._loop.huber * self.consistency.sigma_data
        error = ((found - wanted).square().sum(-1) + c**2).sqrt() - c
        loss = weighted_mean(error, (level > 0) & acted, batch)
        return loss, {"loss": loss.detach()}

    def finished(self) -> BesoPolicy:
        """A plain policy with the student's weights."""
        made = BesoPolicy(self.spec, self.config)
        made.load_state_dict({name: value for name, value in self.state_dict().items()
                              if not name.startswith("target_")})  # fmt: skip
        return made.to(self.consistency.sigma_data.device).eval()

    def _end(self, x: Tensor, level: Tensor, seen: Seen, weights: dict[str, Tensor]) -> Tensor:
        given = self.consistency.network_input(x, level), self.consistency.network_level(level), *seen
        return self.consistency.end(x, functional_call(self.network, weights, given), level)

    def _stepped(self, x: Tensor, level: Tensor, lower: Tensor, seen: Seen) -> Tensor:
        """The teacher's step along the probability-flow ODE; clean actions stay."""
        first = self._slope(x, level, seen)
        ahead = x + (lower - level)[..., None] * first
        if self._loop.solver == "euler":
            return ahead
        return x + (lower - level)[..., None] * (first + self._slope(ahead, lower, seen)) / 2

    def _slope(self, x: Tensor, level: Tensor, seen: Seen) -> Tensor:
        """``(x - D) / sigma`` of the teacher."""
        (teacher,) = self._teacher
        teacher.to(x.device)
        objective = teacher.objective
        assert isinstance(objective, Diffusion)
        guidance = 1.0 if seen[2] is None else teacher.config.goal.guidance
        c = coefficients(level, objective.sigma_data)
        denoised = c.skip[..., None] * x + c.out[..., None] * teacher.guided_answers(x, level, *seen, guidance)
        return (x - denoised) / torch.where(level > 0, level, 1.0)[..., None]

    def _target(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(f"target_{index}") for index, (name, _) in
                enumerate(self.network.named_parameters())}  # fmt: skip

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average student on, by what the last gradient step changed."""
        weights = [parameter.detach() for parameter in self.network.parameters()]
        torch._foreach_lerp_(list(self._target().values()), weights, 1 - self._loop.target_decay)
