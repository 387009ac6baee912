"""What the one-step families whose map is a perceptron share."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from fermo.policies.behavior_cloning_config import BehaviorCloningConfig
from fermo.policies.certificates.certificate import FeedforwardMap, certify
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

    def why_uncertified(self) -> str | None:
        """None: a perceptron between affine normalisers can be certified."""
        return None

    def certificate(self) -> dict[str, Any] | None:
        """What is proved of the deployed weights (`fermo.policies.certificates`), with the steepest slope found.

        Raises:
            FermoError: The weights are not finite, or a search found a slope above the bound: one of them is wrong.
        """
        if self.why_uncertified() is not None:
            return None
        folded = copy.deepcopy(self).cpu().fold().requires_grad_(False)
        tensors = {name: tensor.numpy() for name, tensor in folded.state_dict().items()}
        deployed = FeedforwardMap.from_tensors(
            tensors, self.spec, self.config.activation, self.config.action_base,
            squash=isinstance(folded.network[-1], nn.Tanh),
        )  # fmt: skip
        proved = certify(deployed, gamma_requested=getattr(self.config, "gamma", None))
        first, second = folded.steepest_pair(proved["lipschitz"])
        found = {"steepest_slope_found": deployed.slope(first, second)}
        return proved | found | {"steepest_pair": [first.tolist(), second.tolist()]}
