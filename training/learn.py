"""From a task to a checkpoint folder by reinforcement learning, resumable: what ``fermo train TASK ppo`` does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from gymnasium.vector import AutoresetMode

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.perturbations.base import Perturbation
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.policies.actor_mlp.policy import ActorMlpPolicy
from fermo.policies.checkpoint import save_checkpoint
from fermo.training.loops.bc import TrainingInterrupted
from fermo.training.loops.processes import Processes
from fermo.training.loops.rl_config import AnyLearner, PpoConfig
from fermo.training.loops.state import FILE_NAME


def learn(folder: Path, *, task: str, learner: str, config: AnyLearner, num_envs: int, backend: str = "cpu",
          threads: int = 0, seed: int = 0, perturbations: Sequence[Perturbation] = (),
          processes: Processes | None = None) -> ActorMlpPolicy:  # fmt: skip
    """Train an actor and leave it in ``folder/checkpoint``.

    Args:
        folder: Gets the learner's state, its metrics and the checkpoint; whatever is there already is continued.
        task: Name in the registry.
        learner: Name in `fermo.training.loops.rl_config.LEARNERS`, noted in the checkpoint.
        config: The learner's config.
        num_envs: Worlds of this process.
        backend: ``"cpu"`` or ``"warp"``.
        threads: Of the CPU back end; 0 takes all, or this process's share of them.
        seed: Of the worlds, the networks and the exploration.
        perturbations: What is wrong with the worlds, in this order.
        processes: Which other processes train the same networks; only `PpoConfig` knows of them.

    Raises:
        KeyboardInterrupt: Training was interrupted; its state is saved.
        FermoError: What is there already is another training.
    """
    processes = processes or Processes()
    env = VectorEnv(
        make_task(task), num_envs, backend=backend, seed=seed, autoreset_mode=AutoresetMode.SAME_STEP,
        perturbations=perturbations, worlds=processes.worlds(num_envs), backend_options=_place(backend, threads),
    )  # fmt: skip
    options: dict[str, Any] = {"seed": seed, "folder": folder, "resume": (folder / FILE_NAME).is_file()}
    try:
        with torch.random.fork_rng(devices=[]):  # the caller's random state stays as it was
            policy = _train(env, config, options, processes)
    except TrainingInterrupted as stopped:
        raise KeyboardInterrupt(str(stopped)) from stopped
    if processes.first:
        save_checkpoint(policy, folder / "checkpoint", extra={"task": env.task.name, "learner": learner, "seed": seed})
    return policy


def _place(backend: str, threads: int) -> dict[str, Any]:
    """Where this process simulates: its share of the cores, or its GPU."""
    if backend == "cpu":
        neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        return {"num_threads": threads or max(1, len(os.sched_getaffinity(0)) // neighbours)}
    return {"device": f"cuda:{torch.cuda.current_device()}"} if torch.cuda.is_available() else {}


def _train(env: VectorEnv, config: AnyLearner, options: dict[str, Any], processes: Processes) -> ActorMlpPolicy:
    if isinstance(config, PpoConfig):
        require("rsl_rl", "rsl-rl-lib")
        os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")  # rsl_rl loads GitPython, which wants git installed
        from fermo.training.loops.rl_ppo import train_ppo

        return train_ppo(env, config, processes=processes, **options)
    if processes.count > 1:
        raise FermoError("Stable-Baselines3 trains in one process: start this learner without torchrun, or take ppo")
    require("stable_baselines3", "stable-baselines3")
    from fermo.training.loops.rl_sb3 import train_sb3

    return train_sb3(env, config, **options)


def require(module: str, package: str) -> None:
    """Raise `FermoError` that says what to install when a learner's library is missing."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise FermoError(f"this learner needs {package}: pip install 'fermo[rl]'")
