"""How often a policy succeeds and what it is rewarded: batched episodes from held-out starts."""

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
from fermo.policies.base import Policy

VALIDATION_SEED, TEST_SEED = 1_000_000, 2_000_000
"""Seeds apart from those of demonstrations; starts drawn from the first choose, starts from the second report."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of N episodes.

    Attributes:
        task: Name of the task.
        returns: Sum of the rewards until the episode ended, ``(N,)`` float64.
        lengths: Control steps until then, ``(N,)`` int64.
        solved: Solved at the end, ``(N,)`` bool; None where the task does not define success.
        qpos: Poses of the first episodes, one a control step, ``(K, T, nq)``.
    """

    task: str
    returns: Tensor
    lengths: Tensor
    solved: Tensor | None
    qpos: Tensor

    @property
    def success(self) -> Tensor:
        """Solved at the end, ``(N,)`` bool. Raises `FermoError` where the task does not define success."""
        if self.solved is None:
            raise FermoError(f"task {self.task} does not define success; choose one that does")
        return self.solved


def evaluate(task: Task, act: Policy | Callable[[Tensor], Tensor], *, episodes: int, seed: int,
             perturbations: Sequence[Perturbation] = (), worlds: Tensor | None = None, record: int = 0,
             progress: str = "") -> Outcome:  # fmt: skip
    """Run `act` in `episodes` worlds at once, one episode each.

    An episode that ends by the task's own rules earns nothing more, and its poses go on until all have ended.

    Args:
        task: What to do.
        act: A policy, which forgets what it remembered first; or any map from observations ``(N, observation_size)`` to
            actions ``(N, command_size)``.
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
    if isinstance(act, Policy):
        act.reset()
    choose = act.select_action if isinstance(act, Policy) else act
    obs, _ = env.reset()
    running = torch.ones(episodes, dtype=torch.bool, device=env.device)
    returns = torch.zeros(episodes, dtype=torch.float64, device=env.device)
    lengths, poses, info = torch.zeros_like(env.steps), [], {}
    solved = torch.zeros_like(running)
    for _ in tqdm(range(task.max_steps), desc=progress, disable=not progress, leave=False):
        with torch.no_grad():
            action = choose(obs)
        obs, reward, terminated, _, info = env.step(action)
        solved = torch.where(running, info.get("success", solved), solved)
        returns += reward * running
        lengths += running
        running &= ~terminated
        poses.append(env.sim["qpos"][:record].clone())
        if not running.any():
            break
    return Outcome(task=task.name, returns=returns.cpu(), lengths=lengths.cpu(),
                   solved=solved.cpu() if "success" in info else None, qpos=torch.stack(poses, dim=1))  # fmt: skip
