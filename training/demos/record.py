"""Recording demonstrations in batched simulation: clean ones, and ones whose execution is disturbed on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor
from tqdm import tqdm

from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Task
from fermo.envs.core.vector_env import VectorEnv

Expert = Callable[[Tensor], Tensor]
"""Observations ``(N, observation_size)`` to actions ``(N, command_size)``."""


@runtime_checkable
class EpisodicExpert(Protocol):
    """An expert that plans a whole episode and remembers where in it it is."""

    def begin(self, random: WorldRandom) -> Expert:
        """The expert for the present episodes of `random`, from which it draws what it decides."""
        ...


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """What is added to the expert's actions so that it shows how to recover (DART, Laskey et al., CoRL 2017).

    The noise is a first-order process that switches on and off, so that the arm is led astray for a while and then left
    to the expert. What is recorded as the action is always the expert's own answer, never the disturbed one.

    Attributes:
        std: Stationary standard deviation per command, in the command's unit.
        time_constant: Of the noise [s].
        on_fraction: Share of the time during which it acts.
        period: Mean length of an on-off cycle [s].
    """

    std: tuple[float, ...]
    time_constant: float = 0.25
    on_fraction: float = 0.4
    period: float = 1.2

    def __post_init__(self) -> None:
        if not min(self.std) >= 0 or self.time_constant <= 0 or self.period <= 0 or not 0 <= self.on_fraction <= 1:
            raise ValueError(f"a disturbance needs std >= 0, positive times and 0 <= on_fraction <= 1, got {self}")


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """Whole episodes.

    Attributes:
        observations: ``(E, T, observation_size)``, what the expert saw.
        actions: ``(E, T, command_size)``, what it answered.
        lengths: ``(E,)`` int64, steps until the episode ended by the task's own rules, T where it did not; what
            follows is no part of it.
        success: ``(E,)`` bool, whether the task stood solved at the end; where that is not defined, whether the
            episode lasted.
        columns: More that is known of each episode, by name, ``(E, k)``; a dataset repeats it in every frame.
    """

    observations: Tensor
    actions: Tensor
    lengths: Tensor
    success: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)

    def select(self, chosen: Tensor) -> Episodes:
        """The episodes of `chosen`, a mask ``(E,)`` or indices."""
        return Episodes(
            observations=self.observations[chosen], actions=self.actions[chosen], lengths=self.lengths[chosen],
            success=self.success[chosen], columns={name: rows[chosen] for name, rows in self.columns.items()},
        )  # fmt: skip

    def with_columns(self, columns: dict[str, Tensor]) -> Episodes:
        """The same episodes, of which more is known."""
        return replace(self, columns=self.columns | columns)


@torch.no_grad()
def record_episodes(task: Task, expert: Expert | EpisodicExpert, *, episodes: int, seed: int,
                    disturbance: Disturbance | None = None, num_threads: int = 0,
                    progress: str = "") -> Episodes:  # fmt: skip
    """Let `expert` act in `episodes` worlds at once for one episode each.

    Args:
        task: What to do.
        expert: Who acts.
        episodes: How many.
        seed: Of everything random; world i's episode does not depend on how many there are.
        disturbance: What disturbs the execution; None for clean demonstrations.
        num_threads: Of the simulation; 0 for all processors.
        progress: Title of a progress bar; none when empty.
    """
    env = VectorEnv(
        task, episodes, seed=seed, autoreset_mode=AutoresetMode.DISABLED, backend_options={"num_threads": num_threads}
    )
    obs, _ = env.reset()
    act = expert.begin(env.random) if isinstance(expert, EpisodicExpert) else expert
    noise = _Noise(env, disturbance) if disturbance else None
    running = torch.ones(episodes, dtype=torch.bool)
    seen, answered, lengths, success = [], [], torch.zeros_like(env.steps), torch.zeros_like(running)
    for _ in tqdm(range(task.max_steps), desc=progress, disable=not progress, leave=False):
        action = act(obs)
        seen.append(obs)
        answered.append(action.to(torch.float32))
        obs, _, terminated, _, info = env.step(action if noise is None else action + noise())
        success = torch.where(running, info.get("success", ~terminated), success)
        lengths += running
        running &= ~terminated
        if not running.any():
            break
    return Episodes(observations=torch.stack(seen, dim=1), actions=torch.stack(answered, dim=1), lengths=lengths,
                    success=success)  # fmt: skip


class _Noise:
    """The switched first-order process of `Disturbance`, advanced one control step a call."""

    def __init__(self, env: VectorEnv, disturbance: Disturbance) -> None:
        self.env, self.disturbance = env, disturbance
        self.value = torch.zeros(env.num_envs, len(disturbance.std), dtype=torch.float64)
        self.on = env.random.uniform("disturbance start") < disturbance.on_fraction

    def __call__(self) -> Tensor:
        d, dt, random = self.disturbance, self.env.task.control_dt, self.env.random
        keep = torch.exp(torch.tensor(-dt / d.time_constant, dtype=torch.float64))
        kick = torch.sqrt(1.0 - keep**2) * random.normal("disturbance", (len(d.std),), step=self.env.steps)
        self.value = keep * self.value + kick * torch.tensor(d.std, dtype=torch.float64)
        flip = random.uniform("disturbance switch", (2,), step=self.env.steps)
        switch = flip[:, 0] < dt / d.period
        self.on = torch.where(switch, flip[:, 1] < d.on_fraction, self.on)
        return self.value * self.on[:, None]
