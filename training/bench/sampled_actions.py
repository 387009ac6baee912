"""Whether a policy's samples are distributed as the demonstrated actions: the energy distance between the two."""

from __future__ import annotations

import torch
from torch import Tensor

from fermo.policies.beso.policy import BesoPolicy
from fermo.policies.beso.situation import Situation
from fermo.training.data.reader import Dataset
from fermo.training.data.samples import make_samples


def energy_distance(first: Tensor, second: Tensor) -> float:
    """``2 E|X - Y| - E|X - X'| - E|Y - Y'|``, 0 where both are distributed alike (Székely and Rizzo 2013).

    Args:
        first: Samples of X, ``(M, size)``.
        second: Samples of Y, ``(L, size)``.
    """
    between = torch.cdist(first, second).mean()
    within = [torch.cdist(each, each).sum() / (len(each) * (len(each) - 1)) for each in (first, second)]
    return float(2 * between - within[0] - within[1])


@torch.no_grad()
def sampled_actions(policy: BesoPolicy, dataset: Dataset, *, samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """What a policy samples where demonstrators acted, and what they did, both scaled, ``(samples, command_size)``.

    Args:
        policy: Sees the windows before these actions, and goals from after them if it knows goals.
        dataset: Of its plant.
        samples: How many; no more than there are frames.
        seed: Of the choice.
    """
    frames = {"observation": torch.from_numpy(dataset.observations).float(),
              "action": torch.from_numpy(dataset.actions).float()}  # fmt: skip
    windows = make_samples(frames, policy.window, torch.from_numpy(dataset.episode_index))
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(windows), generator=generator)[:samples]
    batch = windows.batch(chosen, generator)
    past = batch["observation"].shape[1] - 1
    goal = None if policy.window.goal is None else policy.goals.scaled(batch["goal"], policy.observation_normalizer)
    policy.set_goal(None if goal is None else batch["goal"])
    blank = policy.blank_situation(len(chosen))
    situation = Situation(
        observations=batch["observation"], observed=batch["observed"], actions=batch["action"][:, :past], goal=goal,
        prefix=blank.prefix, decided=blank.decided, episode=torch.arange(len(chosen)), step=blank.step,
    )  # fmt: skip
    acted = policy.chunk_in(situation, policy.noise_of(situation))[:, 0]
    return policy.action_normalizer(acted), policy.action_normalizer(batch["action"][:, past])
