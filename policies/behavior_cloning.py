"""What the one-step families whose map is a perceptron share."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from fermo.policies.behavior_cloning_config import BehaviorCloningConfig
from fermo.policies.certificate import FeedforwardMap, certify
from fermo.policies.network import mlp
from fermo.policies.one_step import OneStepPolicy
from fermo.signal import PlantSpec


class BehaviorCloningPolicy(OneStepPolicy):
    """A one-step policy whose folded network is linear layers with an activation between them."""

    config: BehaviorCloningConfig
    network: nn.Sequential

    def __init__(self, spec: PlantSpec, config: BehaviorCloningConfig) -> None:
        super().__init__(spec, config)
        self.loss = config.loss

    def _build_network(self) -> nn.Module:
        return mlp(self._sizes(), self.config.activation, self._generator())

    def _sizes(self) -> tuple[int, ...]:
        return (self.spec.observation_size, *self.config.hidden, self.spec.command_size)

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.config.seed)

    def certificate(self) -> dict[str, Any]:
        """What is proved of the deployed weights (see `fermo.policies.certificate`), with the steepest slope found.

        Raises:
            FermoError: A search found a slope above the bound, so one of the two is wrong.
        """
        folded = copy.deepcopy(self).cpu().fold().requires_grad_(False)
        tensors = {name: tensor.numpy() for name, tensor in folded.state_dict().items()}
        proved = certify(
            FeedforwardMap.from_tensors(tensors, self.spec, self.config.activation, self.config.action_base),
            gamma_requested=getattr(self.config, "gamma", None),
        )
        return folded.searched(proved)
