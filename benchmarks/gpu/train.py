"""A short training at full speed: rsl_rl's own PPO on fermo's vector environment, all on one device.

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

import torch
import tyro
from gymnasium.vector import AutoresetMode
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict
from torch import Tensor

from fermo.benchmarks.results import ShortTraining
from fermo.envs.adapters.rsl_rl import RslRlVecEnv
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.training.files import write_json
from fermo.training.provenance import provenance

STEPS_A_ROUND = 24


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train for some rounds and say how fast, and whether the reward rose.

    Attributes:
        task: Name of the task.
        device: Where worlds and learner live.
        num_envs: Worlds.
        rounds: Rollouts of 24 steps, each followed by an update.
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
    torch.manual_seed(options.seed)
    worlds = VectorEnv(make_task(options.task), options.num_envs, backend="warp", seed=options.seed,
                       autoreset_mode=AutoresetMode.SAME_STEP, backend_options={"device": options.device})  # fmt: skip
    env = RewardWatch(worlds)
    runner = OnPolicyRunner(env, ppo_settings(), log_dir=None, device=options.device)
    runner.learn(1)
    start = time.perf_counter()
    runner.learn(options.rounds - 1)
    rewards = env.mean_rewards()  # waits for the device
    wall = time.perf_counter() - start
    made, rate = provenance(), STEPS_A_ROUND * options.num_envs * (options.rounds - 1) / wall
    return ShortTraining(
        task=env.env.task.name, command=command, started=made["started"],
        machine=", ".join([made["machine"]["cpu"], *made["machine"]["gpus"]]), device=options.device,
        num_envs=options.num_envs, rounds=options.rounds, env_steps=STEPS_A_ROUND * options.num_envs * options.rounds,
        wall_s=wall, env_steps_per_s=rate, mean_rewards=rewards,
    )  # fmt: skip


class RewardWatch(RslRlVecEnv):
    """Remembers the mean reward of every step, on the device."""

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self._seen: list[Tensor] = []

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Any]]:
        """See `RslRlVecEnv.step`."""
        obs, reward, done, extras = super().step(actions)
        self._seen.append(reward.mean())
        return obs, reward, done, extras

    def mean_rewards(self) -> tuple[float, ...]:
        """Mean over the worlds and steps of each round."""
        return tuple(torch.stack(self._seen).reshape(-1, STEPS_A_ROUND).mean(dim=1).tolist())


def ppo_settings() -> dict[str, Any]:
    """rsl_rl's PPO with its defaults, for observations that are not scaled."""
    network = {"class_name": "MLPModel", "hidden_dims": [256, 128, 64], "activation": "elu", "obs_normalization": True}
    noise = {"class_name": "GaussianDistribution", "init_std": 1.0}
    return {
        "algorithm": {"class_name": "PPO"},
        "actor": network | {"distribution_cfg": noise},
        "critic": dict(network),
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
        "num_steps_per_env": STEPS_A_ROUND,
        "save_interval": 10**9,
    }


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
