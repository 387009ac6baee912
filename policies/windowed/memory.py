"""What a policy with a context remembers of N worlds, and what it still means to do in them."""

from __future__ import annotations

import torch
from torch import Tensor

from fermo.policies.windowed.world_noise import Noise, keyed_noise


class Memory:
    """The last T - 1 observations and actions of each world, newest last, and the rest of its chunk.

    Attributes:
        observations: Shape ``(N, T - 1, observation_size)``, SI units; zero where there was none.
        actions: Shape ``(N, T - 1, command_size)``.
        present: Which of them there were, ``(N, T - 1)`` bool.
        queue: Actions to come, shape ``(N, length, command_size)``.
        left: How many of them count, ``(N,)``.
        episode: Which episode each world lives, ``(N,)``.
        step: Actions taken in it, ``(N,)``.
    """

    def __init__(self, obs: Tensor, *, context: int, length: int, action_size: int) -> None:
        worlds = len(obs)
        self.observations = obs.new_zeros(worlds, context - 1, obs.shape[1])
        self.actions = obs.new_zeros(worlds, context - 1, action_size)
        self.present = torch.zeros(worlds, context - 1, dtype=torch.bool, device=obs.device)
        self.queue = obs.new_zeros(worlds, length, action_size)
        self.left, self.episode, self.step = torch.zeros(3, worlds, dtype=torch.int64, device=obs.device)

    def suits(self, obs: Tensor) -> bool:
        """Whether it was made for observations like these."""
        return len(obs) == len(self.left) and obs.device == self.left.device and obs.dtype == self.observations.dtype

    def seen(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """Observations up to the present one, ``(N, T, observation_size)``, and which of them there are, ``(N, T)``."""
        observed = torch.cat([self.present, torch.ones_like(self.due())[:, None]], 1)
        return torch.cat([self.observations, obs[:, None]], 1), observed

    def noise(self, seed: int) -> Noise:
        """This step's noise: further draws differ, asking for it again repeats them."""
        return keyed_noise(seed, self.episode, self.step)

    def due(self) -> Tensor:
        """Which worlds have no action left, ``(N,)`` bool."""
        return self.left == 0

    def adopt(self, chunk: Tensor) -> None:
        """Let the worlds that are due follow a chunk, ``(N, length, command_size)``."""
        due = self.due()
        self.queue = torch.where(due[:, None, None], chunk, self.queue)
        self.left = torch.where(due, self.queue.shape[1], self.left)

    def next_action(self) -> Tensor:
        """The first action of the queue, ``(N, command_size)``, which leaves it."""
        action = self.queue[:, 0]
        self.queue = self.queue.roll(-1, dims=1).detach()
        self.left = self.left - 1
        return action

    def remember(self, obs: Tensor, action: Tensor) -> None:
        """Append what was seen and done; a world where one is not finite starts over, for NaN must not stay."""
        action = action.detach().to(obs.dtype)
        self.observations = torch.cat([self.observations, obs.detach()[:, None]], 1)[:, 1:]
        self.actions = torch.cat([self.actions, action[:, None]], 1)[:, 1:]
        self.present = torch.cat([self.present, torch.ones_like(self.due())[:, None]], 1)[:, 1:]
        self.step = self.step + 1
        self._clear(~(obs.isfinite().all(1) & action.isfinite().all(1)))

    def begin(self, mask: Tensor) -> None:
        """The worlds of `mask`, ``(N,)`` bool, begin their next episode."""
        self.episode = self.episode + mask
        self.step = torch.where(mask, 0, self.step)
        self._clear(mask)

    def _clear(self, mask: Tensor) -> None:
        """Forget everything of some worlds; zeros, since attention multiplies even what it does not see."""
        self.present = self.present & ~mask[:, None]
        self.observations = torch.where(mask[:, None, None], 0.0, self.observations)
        self.actions = torch.where(mask[:, None, None], 0.0, self.actions)
        self.queue = torch.where(mask[:, None, None], 0.0, self.queue)
        self.left = torch.where(mask, 0, self.left)
