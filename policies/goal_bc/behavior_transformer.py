"""Bins of actions, and offsets from their centres (behaviour transformers, Shafiullah et al. 2022)."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from scipy.cluster.vq import kmeans2
from torch import Tensor

from fermo.errors import FermoError
from fermo.policies.goal_bc.config import GoalBcConfig
from fermo.policies.goal_bc.head import Head, draw
from fermo.policies.windowed.world_noise import Noise

_ITERATIONS = 50  # of Lloyd's algorithm


class BehaviorTransformer(Head):
    """A class for each bin, and for each an offset, so that classes keep the ways apart and offsets make them exact.

    Attributes:
        centres: Of the bins, in scaled actions, shape ``(K, action_size)``.
    """

    centres: Tensor

    def __init__(self, config: GoalBcConfig, action_size: int) -> None:
        super().__init__(config, action_size)
        self.config, self.seed = config.behavior_transformer, config.seed
        self.size = self.config.bins * (1 + action_size)
        self.register_buffer("centres", torch.zeros(self.config.bins, action_size))

    @torch.no_grad()
    def fit(self, actions: Tensor) -> None:
        """Find the centres. Raises `FermoError` when there are fewer distinct actions than bins."""
        self.centres.copy_(torch.from_numpy(k_means(actions.double().cpu().numpy(), self.config.bins, self.seed)))

    def bins_of(self, actions: Tensor) -> Tensor:
        """The nearest centre's number for each action ``(..., action_size)``."""
        return (actions[..., None, :] - self.centres).square().sum(-1).argmin(-1)

    def classes_and_offsets(self, answers: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the bins ``(..., K)``, and the offset in each ``(..., K, action_size)``."""
        bins = self.config.bins
        return answers[..., :bins], answers[..., bins:].unflatten(-1, (bins, self.action_size))

    def errors(self, answers: Tensor, actions: Tensor, counted: Tensor) -> Tensor:
        """``-(1 - p)^gamma ln p`` for the action's bin, plus the squared error of that bin's offset."""
        logits, offsets = self.classes_and_offsets(answers)
        action = actions[..., 0, :]
        k = self.bins_of(action)[..., None]
        log_p = logits.log_softmax(-1).gather(-1, k)[..., 0]
        focal = -((-torch.expm1(log_p)) ** self.config.focal) * log_p  # Lin et al. 2017
        offset = offsets.take_along_dim(k[..., None], -2)[..., 0, :]
        missed = (self.centres[k[..., 0]] + offset - action).square().mean(-1)
        return focal + self.config.offset_weight * missed

    def act(self, answers: Tensor, noise: Noise) -> Tensor:
        """A bin drawn, its centre and its offset."""
        logits, offsets = self.classes_and_offsets(answers)
        world, k = torch.arange(len(answers), device=answers.device), draw(logits, noise)
        return (self.centres[k] + offsets[world, k])[:, None]


def k_means(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    """`count` centres of points ``(M, d)``: Lloyd's algorithm from k-means++, the same for the same seed.

    Raises:
        FermoError: There are fewer distinct points than centres.
    """
    distinct = len(np.unique(points, axis=0))
    if distinct < count:
        raise FermoError(f"{count} bins need as many distinct actions, the demonstrations have {distinct}: lower bins")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a bin that Lloyd's steps emptied stays where it was, unused
        generator = np.random.default_rng(seed)
        # SciPy before 1.15 knows only the name `seed`, and later ones take it too
        return kmeans2(points, count, iter=_ITERATIONS, minit="++", seed=generator)[0]  # type: ignore[call-arg]
