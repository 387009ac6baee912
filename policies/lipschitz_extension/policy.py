"""The exact reference: the best Lipschitz policy on the demonstrations themselves, extended to every observation."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from fermo.policies.base import SolvedPolicy
from fermo.policies.lipschitz_extension.certificate import certify_extension
from fermo.policies.lipschitz_extension.config import LipschitzExtensionConfig
from fermo.policies.lipschitz_extension.extension import Extension, McShaneWhitney
from fermo.policies.lipschitz_extension.fit import fit
from fermo.policies.lipschitz_extension.kirszbraun import Kirszbraun
from fermo.policies.one_step import OneStepPolicy


class LipschitzExtensionPolicy(OneStepPolicy, SolvedPolicy):
    """Non-parametric: the demonstrations, moved as little as alpha asks, are the weights, and a query costs O(n).

    It is what a network of the same bound is measured against, not what a robot needs. Until `solve` it knows one
    demonstration, of zero.
    """

    family: ClassVar[str] = "lipschitz_extension"
    config: LipschitzExtensionConfig
    network: Extension

    def _build_network(self) -> Extension:
        made = McShaneWhitney if self.spec.command_size == 1 else Kirszbraun
        return made(self.spec.observation_size, self.spec.command_size, self.config.alpha)

    def solve(self, observations: Tensor, actions: Tensor, *, tolerance: float, max_steps: int) -> dict[str, float]:
        """See `fermo.policies.base.SolvedPolicy`; the metrics are those of `fermo.policies.lipschitz_extension.fit`."""
        points = self.observation_normalizer(observations)
        targets = self.action_normalizer(self._without_base(observations, actions))
        found = fit(points.double().cpu().numpy(), targets.double().cpu().numpy(), self.config.alpha,
                    interpolate=self.config.interpolate, tolerance=tolerance, max_steps=max_steps)  # fmt: skip
        device = observations.device
        self.network.place(torch.as_tensor(found.points, device=device), torch.as_tensor(found.values, device=device))
        return found.metrics

    def certificate(self) -> dict[str, Any]:
        """What is proved of the extension, whatever its data, with the steepest slope found.

        Raises:
            FermoError: A search found a slope above the bound, so one of the two is wrong.
        """
        deployed = copy.deepcopy(self).cpu()
        tensors = {name: tensor.numpy() for name, tensor in deployed.state_dict().items()}
        proved = certify_extension(tensors, self.spec, self.config)
        ends = torch.as_tensor(np.stack(deployed.steepest_pair(proved["lipschitz"], starts=16)))
        rise, run = deployed.normalized_map(ends).diff(dim=0), ends.diff(dim=0)
        return proved | {"steepest_slope_found": float(rise.norm() / run.norm()), "steepest_pair": ends.tolist()}

    def why_not_exportable(self) -> str | None:
        """Its answer is a solution."""
        return "solves a problem for each observation"

    def why_uncertified(self) -> str | None:
        """None: the extension keeps alpha whatever its data."""
        return None
