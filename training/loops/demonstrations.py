"""Demonstrations before a training: checked, and some episodes of them held out."""

from __future__ import annotations

import torch
from torch import Tensor

from fermo.errors import FermoError
from fermo.policies.base import Policy
from fermo.training.loops.bc_config import BcConfig
from fermo.training.loops.random_streams import Stream, stream_generator


def check_data(policy: Policy, observations: Tensor, actions: Tensor, weights: Tensor | None = None,
               next_observations: Tensor | None = None) -> None:  # fmt: skip
    """Raise `FermoError` when the demonstrations' counts or sizes do not fit one another or the policy."""
    samples = len(observations)
    if samples == 0:
        raise FermoError("no samples to train on: record demonstrations first")
    if len(actions) != samples or (weights is not None and weights.shape != (samples,)):
        weighted = "" if weights is None else f", weights of shape {tuple(weights.shape)}"
        raise FermoError(f"{samples} observations, {len(actions)} actions{weighted}: the counts must agree")
    if next_observations is not None and next_observations.shape != observations.shape:
        shapes = f"{tuple(next_observations.shape)} and {tuple(observations.shape)}"
        raise FermoError(f"next_observations and observations must have one shape, they have {shapes}")
    horizon = policy.horizon if policy.window is None else 1  # a window gathers its actions itself
    if actions[0].numel() != horizon * policy.spec.command_size:
        needed = f"{horizon} x {policy.spec.command_size}"
        shape = tuple(actions.shape)
        raise FermoError(f"{policy.family} learns {needed} numbers a sample, the actions have shape {shape}")
    if weights is not None and not (torch.isfinite(weights).all() and (weights >= 0).all() and weights.sum() > 0):
        raise FermoError("sample weights must be finite, not negative and not all zero")


def split_episodes(samples: int, episode_index: Tensor | None, config: BcConfig) -> tuple[Tensor, Tensor]:
    """Numbers of the samples to learn from, and of those in held-out episodes.

    Args:
        samples: How many there are.
        episode_index: As of `fermo.training.loops.bc.train_bc`.
        config: Says which share to hold out, and the seed.

    Raises:
        FermoError: No episode would be left to learn from.
    """
    if not config.validation:
        return torch.arange(samples), torch.arange(0)
    index = torch.arange(samples) if episode_index is None else episode_index.cpu()
    episodes = torch.unique_consecutive(index)
    count = max(1, round(config.validation * len(episodes)))
    if count >= len(episodes):
        raise FermoError(f"{count} of {len(episodes)} episodes would be held out and none learned from: "
                         "record more, or set validation to 0")  # fmt: skip
    order = torch.randperm(len(episodes), generator=stream_generator(config.seed, Stream.SPLIT, 0))
    held = torch.isin(index, episodes[order[:count]])
    return (~held).nonzero()[:, 0], held.nonzero()[:, 0]
