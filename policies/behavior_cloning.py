"""What the one-step behaviour-cloning families share: normalise, run a network, scale, clamp."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fermo.errors import FermoError
from fermo.policies.base import Policy
from fermo.policies.behavior_cloning_config import BehaviorCloningConfig
from fermo.policies.certificates.certificate import FeedforwardMap, certify
from fermo.policies.certificates.falsifier import steepest_pair
from fermo.policies.network import mlp
from fermo.policies.normalizer import Normalizer
from fermo.signal import PlantSpec

ROUNDING = 1e-4  # what float32 may add to a slope measured over a short distance


class BehaviorCloningPolicy(Policy):
    """``action = clamp(base(obs) + inverse_normalise(network(normalise(obs))))``, one action at a time.

    NaN in an observation gives NaN in that world's action, and in no other's; the safety limiter refuses to send it.
    """

    low: Tensor
    high: Tensor

    def __init__(self, spec: PlantSpec, config: BehaviorCloningConfig) -> None:
        super().__init__(spec, config)
        self.base_slice = _base_slice(spec, config.action_base)
        self.observation_normalizer = Normalizer(spec.observations)
        self.action_normalizer = Normalizer(spec.commands)
        self.network = self._build_network(torch.Generator().manual_seed(config.seed))
        bounds = [(low, high) for signal in spec.commands for low, high in zip(signal.low, signal.high, strict=True)]
        self.register_buffer("low", torch.tensor([low for low, _ in bounds]), persistent=False)
        self.register_buffer("high", torch.tensor([high for _, high in bounds]), persistent=False)

    def _build_network(self, generator: torch.Generator) -> nn.Sequential:
        return mlp(self._sizes(), self.config.activation, generator)

    def _sizes(self) -> tuple[int, ...]:
        return (self.spec.observation_size, *self.config.hidden, self.spec.command_size)

    def fit_normalization(self, observations: Tensor, actions: Tensor) -> None:
        """Fit both normalisers; with an `action_base`, the action's is that of the difference."""
        target = actions.reshape(-1, self.spec.command_size)
        self.observation_normalizer.fit(observations)
        self.action_normalizer.fit(target if self.base_slice is None else target - observations[:, self.base_slice])

    def unclamped_action(self, obs: Tensor) -> Tensor:
        """The action before the commands' bounds, shape ``(N, command_size)``."""
        action = self.action_normalizer.inverse(self.network(self.observation_normalizer(obs)))
        return action if self.base_slice is None else action + obs[:, self.base_slice]

    def normalized_map(self, normalized: Tensor) -> Tensor:
        """The certified map: normalised observation to action in units of the action normaliser's std, ``(N, .)`` both.

        The constant offset and the clamp are left out: the first changes no slope, the second can only shrink one.
        """
        output = self.network(normalized)
        if self.base_slice is None:
            return output
        base = self.observation_normalizer.inverse(normalized)[:, self.base_slice]
        return output + base / self.action_normalizer.std

    def predict_action_chunk(self, obs: Tensor) -> Tensor:
        """The next action, shape ``(N, 1, command_size)``."""
        return torch.clamp(self.unclamped_action(obs), self.low, self.high)[:, None]

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Regression loss on normalised actions; ``"weight"`` ``(B,)``, when given, weighs the samples."""
        obs, action = batch["observation"], batch["action"].reshape(-1, self.spec.command_size)
        if self.base_slice is not None:
            action = action - obs[:, self.base_slice]
        predicted, target = self.network(self.observation_normalizer(obs)), self.action_normalizer(action)
        distance = F.mse_loss if self.config.loss == "mse" else F.smooth_l1_loss
        if "weight" in batch:
            weight = batch["weight"]
            loss = (distance(predicted, target, reduction="none").mean(1) * weight).sum() / weight.sum()
        else:
            loss = distance(predicted, target)
        return loss, {"loss": loss.detach()}

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
        generator = torch.Generator().manual_seed(0)
        points = torch.randn(64, self.spec.observation_size, generator=generator)
        pair = steepest_pair(folded.normalized_map, points, generator=generator)
        bound, ends = proved["lipschitz"], (pair.first.double().numpy(), pair.second.double().numpy())
        if pair.slope > bound * (1 + ROUNDING):
            raise FermoError(f"the bound {bound:.6g} is refuted by a slope of {pair.slope:.6g}: report this as a bug")
        return proved | {"steepest_slope_found": deployed.slope(*ends), "steepest_pair": [end.tolist() for end in ends]}


def _base_slice(spec: PlantSpec, name: str | None) -> slice | None:
    if name is None:
        return None
    base = next((signal for signal in spec.observations if signal.name == name), None)
    units = {signal.unit for signal in spec.commands}
    if base is None or base.size != spec.command_size or units != {base.unit}:
        found = "missing" if base is None else f"{base.size} x {base.unit}"
        needed = f"{spec.command_size} x {'/'.join(sorted(units))}"
        raise FermoError(f"action_base {name!r} must be an observation like the commands ({needed}), it is {found}")
    return spec.observation_slices()[name]
