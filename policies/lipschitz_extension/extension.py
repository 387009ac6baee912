"""From values at the data to a map on the whole space with the same Lipschitz constant."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

_QUERIES = 64  # answered at once, so that memory stays at a few times the data


class Extension(nn.Module, ABC):
    """A map of Lipschitz constant `alpha`, in l2, whatever its data; it passes through data that keep alpha themselves.

    A query costs O(n). The data are parameters, so a checkpoint holds them, and one of another size may be loaded.

    Attributes:
        alpha: The constant.
        points: Normalised observations, shape ``(n, d)``.
        values: Normalised actions there, shape ``(n, m)``.
    """

    def __init__(self, inputs: int, outputs: int, alpha: float) -> None:
        super().__init__()
        self.alpha = alpha
        self.place(torch.zeros(1, inputs), torch.zeros(1, outputs))

    def place(self, points: Tensor, values: Tensor) -> None:
        """Take other data, as float32."""
        self.points = nn.Parameter(points.float(), requires_grad=False)
        self.values = nn.Parameter(values.float(), requires_grad=False)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        stored = state_dict.get(f"{prefix}points"), state_dict.get(f"{prefix}values")
        if all(isinstance(tensor, Tensor) for tensor in stored):
            device = self.points.device
            self.place(*(torch.empty_like(tensor, device=device) for tensor in stored if tensor is not None))
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def forward(self, query: Tensor) -> Tensor:
        """Shape ``(N, d)`` to ``(N, m)``, computed in float64."""
        answers = [self.extend(part.double()) for part in query.split(_QUERIES)]
        return torch.cat(answers).to(query.dtype)

    @abstractmethod
    def extend(self, query: Tensor) -> Tensor:
        """The map for a few queries, float64."""


class McShaneWhitney(Extension):
    """For one output: the middle between the largest and the smallest extension (McShane 1934, Whitney 1934).

    ``f(x) = 0.5 (max_i (v_i - alpha ||x - x_i||) + min_i (v_i + alpha ||x - x_i||))``. Coordinate by coordinate it
    would do for m outputs too, but with a constant of ``sqrt(m) alpha``.
    """

    def extend(self, query: Tensor) -> Tensor:
        """See `Extension`."""
        square = (query[:, None] - self.points.double()).square().sum(-1)
        reach = self.alpha * square.clamp_min(1e-24).sqrt()  # the clamp keeps the gradient finite at a data point
        values = self.values[:, 0].double()
        return 0.5 * ((values - reach).amax(1) + (values + reach).amin(1))[:, None]
