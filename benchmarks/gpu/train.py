"""A short training at full speed: ``fermo train TASK ppo`` without its files, clocked, all on one device.

``python -m fermo.benchmarks.gpu.train --task Ant --device cuda --num-envs 4096``
"""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from gymnasium.vector import AutoresetMode
from torch import Tensor

from fermo.benchmarks.results import ShortTraining
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.training.files import write_json
from fermo.training.loops.rl_config import PpoConfig
from fermo.training.loops.rl_ppo import PpoTrainer
from fermo.training.provenance import provenance
from fermo.training.recipes import learner_recipe


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train for some rounds and say how fast, and whether the reward rose.

    Attributes:
        task: Name of the task.
        device: Where worlds and learner live.
        num_envs: Worlds.
        rounds: Rollouts, each followed by an update; one more goes before, which compiles.
        seed: Of everything.
        json: Where the numbers go.
    """

    task: str = "HalfCheetah"
    device: str = "cuda"
    num_envs: int = 4096
    rounds: int = 100
    seed: int = 0
    json: Path = Path("training.json")

    def __post_init__(self) -> None:
        if self.num_envs < 1 or self.rounds < 1:
            raise FermoError(f"num_envs and rounds start at 1, got {self.num_envs} and {self.rounds}")


def train(options: TrainOptions, command: str) -> ShortTraining:
    """Run it; `command` is what was typed."""
    env = RewardWatch(make_task(options.task), options.num_envs, backend="warp", seed=options.seed,
                      autoreset_mode=AutoresetMode.SAME_STEP, backend_options={"device": options.device})  # fmt: skip
    config = learner_recipe(env.task.name, "ppo")
    assert isinstance(config, PpoConfig)
    trainer = PpoTrainer(env, config, seed=options.seed)
    trainer.take_round()  # compiles
    env.mean_reward()
    start, rewards = time.perf_counter(), []
    for _ in range(options.rounds):
        trainer.take_round()
        rewards.append(env.mean_reward())
    wall = time.perf_counter() - start
    made, steps = provenance(), config.rollout_steps * options.num_envs * options.rounds
    return ShortTraining(
        task=env.task.name, command=command, started=made["started"],
        machine=", ".join([made["machine"]["cpu"], *made["machine"]["gpus"]]), device=options.device,
        num_envs=options.num_envs, rounds=options.rounds, env_steps=steps, wall_s=wall, env_steps_per_s=steps / wall,
        mean_rewards=tuple(rewards),
    )  # fmt: skip


class RewardWatch(VectorEnv):
    """Adds up the rewards of all worlds, on the device."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._seen: list[Tensor] = []

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """See `VectorEnv.step`."""
        result = super().step(actions)
        self._seen.append(result[1].mean())
        return result

    def mean_reward(self) -> float:
        """Mean over worlds and steps since it was last asked; waits for the device."""
        mean = float(torch.stack(self._seen).mean())
        self._seen.clear()
        return mean


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = tyro.cli(TrainOptions, args=list(arguments))
    found = train(options, shlex.join(["python", "-m", "fermo.benchmarks.gpu.train", *arguments]))
    print(f"{found.task} on {found.device}: {found.env_steps_per_s:,.0f} env-steps/s with learning, mean reward of a "
          f"step {found.mean_rewards[0]:.3f} in the first round, {found.mean_rewards[-1]:.3f} in the last")  # fmt: skip
    write_json(options.json, found)
    print(options.json)


if __name__ == "__main__":
    main(sys.argv[1:])
