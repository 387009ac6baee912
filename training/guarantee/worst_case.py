"""How far attacks on the measurement drive a loop in simulation: what a guarantee has to stand above."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from torch import Tensor

from fermo.envs.core.task import Task
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.perturbations.gradient_attack import GradientAttack
from fermo.envs.perturbations.gradient_shift import GradientShift
from fermo.training.guarantee.closed_loop import Act, ClosedLoop

Array = NDArray[np.float64]

HALF_PERIODS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
"""Control steps after which a shift turns round."""

RANDOM = 16
"""Worlds with other random turns, and worlds of the gradient attack."""


@dataclass(frozen=True, kw_only=True)
class WorstFound:
    """Largest distances from the equilibrium that any attack reached; measured, so a lower estimate of the worst.

    Attributes:
        largest: Of each state, SI units ``(n,)``.
        attacks: The same by attack.
    """

    largest: Array
    attacks: Mapping[str, Array]


def worst_found(task: Task, act: Act, loop: ClosedLoop, zeta: float, *, seed: int = 0) -> WorstFound:
    """Attack a policy in episodes of a task, every error of l2 length `zeta` in the certificate's units.

    Shifts along the policy's steepest direction turn round on regular beats, at random, and for each state on the beat
    that would drive the linear loop furthest in T steps, ``s_t = sign (A^(T-1-t) B)_i``. The greedy gradient attack has
    the box inscribed in the same ball.

    Args:
        task: Whose episodes start where the guarantee says they do.
        act: The policy as deployed, in its own precision.
        loop: Its loop, for the equilibrium and the beats.
        zeta: Length of the error.
        seed: Of the random turns.
    """
    beats = {
        "regular beat": _square_waves(task.max_steps),
        "random turns": _random_turns(task.max_steps, seed),
        "worst beat of the linear loop": _worst_beats(loop, task.max_steps),
    }
    scale = torch.from_numpy(loop.bound.observation_std)
    greedy = GradientAttack(zeta / np.sqrt(len(scale)), policy_map=act, scale=scale,
                            action_scale=torch.from_numpy(loop.bound.action_std))  # fmt: skip
    signs = torch.cat(list(beats.values()))
    shift = GradientShift(zeta, policy_map=act, scale=scale, signs=signs)
    peaks = np.split(_peaks(task, act, loop, shift, len(signs), seed), np.cumsum([len(b) for b in beats.values()])[:-1])
    found = {"gradient attack": _peaks(task, act, loop, greedy, RANDOM, seed).max(axis=0)}
    found |= {name: rows.max(axis=0) for name, rows in zip(beats, peaks, strict=True)}
    return WorstFound(largest=np.max(list(found.values()), axis=0), attacks=found)


def _peaks(task: Task, act: Act, loop: ClosedLoop, attack: Perturbation, worlds: int, seed: int) -> Array:
    """Largest distance of each state from the equilibrium in one episode of every world, ``(worlds, n)``."""
    states = torch.stack(rollout(task, act, worlds, seed=seed, perturbations=(attack,)))
    return np.abs(states.numpy() - loop.equilibrium).max(axis=0)


def rollout(task: Task, act: Act, worlds: int, *, seed: int,
            perturbations: Sequence[Perturbation] = ()) -> list[Tensor]:  # fmt: skip
    """States ``(worlds, n)`` along an episode, its start included; worlds go on after a fall."""
    env = VectorEnv(task, worlds, seed=seed, autoreset_mode=AutoresetMode.DISABLED, perturbations=perturbations,
                    backend_options={"num_threads": 1})  # fmt: skip
    obs, _ = env.reset()
    states = [torch.cat([env.sim["qpos"], env.sim["qvel"]], dim=1)]
    for _ in range(task.max_steps):
        with torch.no_grad():
            action = act(obs)
        obs, *_ = env.step(action)
        states.append(torch.cat([env.sim["qpos"], env.sim["qvel"]], dim=1))
    return states


def _square_waves(steps: int) -> Tensor:
    time = torch.arange(steps)
    waves = [1.0 - 2.0 * ((time // half) % 2) for half in (*HALF_PERIODS, steps)]
    return torch.stack(waves)


def _random_turns(steps: int, seed: int) -> Tensor:
    """Signs that turn round with probability one in 2, 4, 8, ... at every step."""
    rng = np.random.default_rng(seed)
    turns = rng.random((RANDOM, steps)) < 0.5 ** (1 + np.arange(RANDOM) % 6)[:, None]
    return torch.from_numpy(1.0 - 2.0 * (np.cumsum(turns, axis=1) % 2))


def _worst_beats(loop: ClosedLoop, steps: int) -> Tensor:
    """For every state the signs of its impulse response, backwards in time, and the opposite."""
    power, rows = loop.B.sum(axis=1), []
    for _ in range(steps):
        rows.append(np.where(power < 0, -1.0, 1.0))
        power = loop.A @ power
    signs = np.stack(rows[::-1], axis=1)
    return torch.from_numpy(np.concatenate([signs, -signs]))
