"""What each of two processes does in the test of several processes: train, then write what it ended with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from gymnasium.vector import AutoresetMode
from safetensors.torch import save_file

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.training.loops.processes import Processes, joined
from fermo.training.loops.rl_config import PpoConfig
from fermo.training.loops.rl_ppo import PpoTrainer


def train(processes: Processes, config: PpoConfig, folder: Path, *, same: bool) -> None:
    """Two rounds; with `same` both processes live and explore as the first one does."""
    worlds = torch.arange(8) if same else processes.worlds(8)
    env = VectorEnv(make_task("InvertedPendulum"), 8, worlds=worlds, autoreset_mode=AutoresetMode.SAME_STEP)
    trainer = PpoTrainer(env, config, processes=processes)
    first = trainer.env.get_observations()["policy"].clone()
    if same:
        torch.manual_seed(0)
    for _ in range(2):
        trainer.take_round()
    name = f"{'same' if same else 'own'}{processes.rank}"
    save_file(trainer.runner.alg.get_policy().state_dict() | {"first": first}, folder / f"{name}.safetensors")
    (folder / f"{name}.json").write_text(json.dumps(trainer.metrics.take(processes)))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with joined(on_gpu=False) as processes:
        for same in (False, True):
            train(processes, PpoConfig(**json.loads(sys.argv[1])), Path(sys.argv[2]), same=same)
