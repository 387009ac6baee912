"""How often a policy succeeds: batched episodes from held-out starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor
from tqdm import tqdm

from fermo.envs.core.task import Task
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.base import Perturbation
from fermo.errors import FermoError

VALIDATION_SEED, TEST_SEED = 1_000_000, 2_000_000
"""Seeds apart from those of demonstrations; starts drawn from the first choose, starts from the second report."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of N episodes.

    Attributes:
        success: Solved at the end, ``(N,)`` bool.
        qpos: Poses of the first episodes, one a control step, ``(K, T, nq)``.
    """

    success: Tensor
    qpos: Tensor


def evaluate(task: Task, act: Callable[[Tensor], Tensor], *, episodes: int, seed: int,
             perturbations: Sequence[Perturbation] = (), worlds: Tensor | None = None, record: int = 0,
             progress: str = "") -> Outcome:  # fmt: skip
    """Run `act` in `episodes` worlds at once, one episode each.

    Args:
        task: What to do; it must define success.
        act: Observations ``(N, observation_size)`` to actions ``(N, command_size)``.
        episodes: How many; episode i starts from the same state whatever else differs.
        seed: Of the starts and of everything random.
        perturbations: What goes wrong.
        worlds: Number of each episode's world, when it is not 0, 1, 2, ...: equal numbers start and go on alike.
        record: Of how many episodes to keep the poses.
        progress: Title of a progress bar; none when empty.
    """
    env = VectorEnv(
        task, episodes, seed=seed, autoreset_mode=AutoresetMode.DISABLED, perturbations=perturbations, worlds=worlds
    )
    obs, _ = env.reset()
    if task.success(env.sim) is None:
        raise FermoError(f"task {task.name} does not define success; choose one that does")
    poses, info = [], {}
    for _ in tqdm(range(task.max_steps), desc=progress, disable=not progress, leave=False):
        with torch.no_grad():
            action = act(obs)
        obs, _, _, _, info = env.step(action)
        poses.append(env.sim["qpos"][:record].clone())
    return Outcome(success=info["success"].cpu(), qpos=torch.stack(poses, dim=1))
