"""A network reads a window and a goal, and a head says which chunk of actions its answer stands for."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from fermo.policies.goal_bc.behavior_transformer import BehaviorTransformer
from fermo.policies.goal_bc.config import GoalBcConfig, HeadName
from fermo.policies.goal_bc.head import Head
from fermo.policies.goal_bc.mixture import Mixture
from fermo.policies.goal_bc.networks import ObservationTransformer, WindowPerceptron
from fermo.policies.goal_bc.regression import Regression
from fermo.policies.windowed.goals import Goals
from fermo.policies.windowed.policy import WindowedPolicy, weighted_mean
from fermo.policies.windowed.relations import Relations
from fermo.signal import PlantSpec

HEADS: dict[HeadName, type[Head]] = {
    "regression": Regression,
    "mixture": Mixture,
    "behavior_transformer": BehaviorTransformer,
}


class GoalBcPolicy(WindowedPolicy):
    """Behaviour cloning with the windows, goals, scalings and memory of `BesoPolicy`, and without its diffusion.

    Attributes:
        head: What the network's answers mean.
    """

    family: ClassVar[str] = "goal_bc"
    config: GoalBcConfig
    network: WindowPerceptron | ObservationTransformer

    def __init__(self, spec: PlantSpec, config: GoalBcConfig) -> None:
        super().__init__(spec, config)
        self.head = HEADS[config.head](config, spec.command_size)
        self.network = _network(spec, config, self.goals, self.head.size)

    def _fit_scaled(self, actions: Tensor) -> None:
        self.head.fit(actions)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The head's error at each observation that the network answers for.

        Args:
            batch: As of `fermo.policies.window.Window`.
        """
        observations, observed, actions, acted = self._scaled_window(batch)
        answers = self.network(observations, observed, self._training_goal(batch))
        answered = slice(-answers.shape[1], None)
        chunks = actions.unfold(1, self.horizon, 1).transpose(2, 3)[:, answered]
        counted = (acted.unfold(1, self.horizon, 1) & observed[..., None])[:, answered]
        loss = weighted_mean(self.head.errors(answers, chunks, counted), counted.any(-1), batch)
        return loss, {"loss": loss.detach()}

    def predict_action_chunk(self, obs: Tensor) -> Tensor:
        """The next H actions, shape ``(N, H, command_size)``, differentiable in `obs`; nothing is remembered.

        Raises:
            FermoError: The goal is missing or for another number of worlds.
        """
        memory = self._remembered(obs)
        answers = self.network(*self._seen(obs, memory))[:, -1]
        return self._unscaled(self.head.act(answers, memory.noise(self.config.seed)))


def _network(spec: PlantSpec, config: GoalBcConfig, goals: Goals,
             answer_size: int) -> WindowPerceptron | ObservationTransformer:  # fmt: skip
    sizes = {"relations": Relations(config.relations, spec, config.goal), "context": config.context,
             "goal_frames": goals.frames, "goal_size": goals.vector_size, "answer_size": answer_size}  # fmt: skip
    generator = torch.Generator().manual_seed(config.seed)
    if config.backbone == "perceptron":
        return WindowPerceptron(config.perceptron, **sizes, generator=generator)
    return ObservationTransformer(config.transformer, **sizes, generator=generator)
