"""Proximal policy optimisation by rsl_rl over a batch of worlds, on one process or several, saved and resumed exactly.

All that happens is a function of the seed, the number of worlds and the number of processes; on the CPU a resumed
training repeats an uninterrupted one bit by bit.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rsl_rl.algorithms import PPO
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict
from torch import Tensor, nn

from fermo.envs.adapters.rsl_rl import RslRlVecEnv
from fermo.envs.core.vector_env import VectorEnv
from fermo.errors import FermoError
from fermo.policies.actor_mlp.config import ActorMlpConfig
from fermo.policies.actor_mlp.policy import ActorMlpPolicy
from fermo.training.loops.processes import Processes
from fermo.training.loops.rl_config import PpoConfig
from fermo.training.loops.rl_metrics import EpisodeMetrics
from fermo.training.loops.rl_rounds import Rounds
from fermo.training.loops.state import load_state, optimizer_tensors, restore_optimizer, save_state


class TimeOutPpo(PPO):
    """rsl_rl's PPO that values the state in which the clock ran out, where rsl_rl takes that of the step before."""

    def process_env_step(self, obs: TensorDict, rewards: Tensor, dones: Tensor, extras: dict[str, Any]) -> None:
        """See `PPO.process_env_step`."""
        late = extras["time_outs"]
        if late.device.type != "cpu" or late.any():
            value = self.critic(extras["final_observations"]).detach().squeeze(1)
            rewards = rewards + self.gamma * value * late
        rest = {name: value for name, value in extras.items() if name != "time_outs"}
        super().process_env_step(obs, rewards, dones, rest)


class _Runner(OnPolicyRunner):
    """rsl_rl's runner among processes that were joined before, by Gloo too, and that are in step from the start."""

    def __init__(self, env: RslRlVecEnv, settings: dict[str, Any], processes: Processes) -> None:
        self._processes = processes
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its networks
            super().__init__(env, settings, device=str(env.device))

    def _configure_multi_gpu(self) -> None:
        rank, count = self._processes.rank, self._processes.count
        self.gpu_global_rank, self.gpu_world_size = rank, count
        self.is_distributed = False  # else every call of learn prints and sends all parameters again
        self.cfg["multi_gpu"] = None if count == 1 else {"global_rank": rank, "local_rank": rank, "world_size": count}


class PpoTrainer:
    """One training under way.

    Args:
        env: The worlds, in SAME_STEP mode.
        config: Settings.
        seed: Of the networks and the exploration; `env` has its own.
        processes: Which other processes train the same networks on other worlds.
    """

    def __init__(self, env: VectorEnv, config: PpoConfig, *, seed: int = 0, processes: Processes | None = None) -> None:
        samples = env.num_envs * config.rollout_steps
        if samples < config.minibatches:
            raise FermoError(f"a round has {samples} samples, too few for {config.minibatches} minibatches")
        self.config, self.processes = config, processes or Processes()
        self.env = RslRlVecEnv(env, reward_scale=config.reward_scale)
        torch.manual_seed(seed)
        self.runner = _Runner(self.env, _settings(config), self.processes)
        self.metrics = EpisodeMetrics(env.num_envs, env.device, config.reward_scale)
        self.runner.logger = self.metrics  # type: ignore[assignment]
        if self.processes.count > 1:
            self.runner.alg.broadcast_parameters()
            torch.manual_seed(seed + self.processes.rank)  # every process explores on its own
        self.round = 0

    @property
    def steps(self) -> int:
        """Control steps so far, of this process's worlds."""
        return self.round * self.config.rollout_steps * self.env.num_envs

    def take_round(self) -> None:
        """Collect and learn once."""
        self.runner.learn(1, init_at_random_ep_len=self.config.random_start and self.round == 0)
        self.round += 1

    def policy(self) -> ActorMlpPolicy:
        """The actor without its exploration, as it stands."""
        config = ActorMlpConfig(hidden=self.config.hidden, activation=self.config.activation)
        policy = ActorMlpPolicy(self.env.env.task.spec, config)
        actor: Any = self.runner.alg.get_policy()
        layers = [layer for layer in actor.mlp if isinstance(layer, nn.Linear)]
        if self.config.normalize_observations:
            normalizer = actor.obs_normalizer
            policy.take_over(layers, normalizer.mean, normalizer.std + normalizer.eps)
        else:
            policy.take_over(layers)
        return policy.eval()

    def save(self, folder: Path) -> None:
        """Write the state from which `restore` goes on, of all processes; each of them must call it."""
        parts = self.processes.gather({name: tensor.cpu() for name, tensor in self._own().items()})
        if not self.processes.first:
            return
        alg = self.runner.alg
        tensors = {f"networks.{name}": tensor for name, tensor in self._networks.state_dict().items()}
        tensors |= {f"optimizer.{n}": t for n, t in optimizer_tensors(alg.optimizer, self._networks).items()}
        for rank, part in enumerate(parts):
            tensors |= {f"process{rank}.{name}": tensor for name, tensor in part.items()}
        header = {"round": self.round, "lr": alg.learning_rate, "identity": self._identity}
        save_state(folder, {name: tensor.cpu() for name, tensor in tensors.items()}, header)

    def restore(self, folder: Path) -> None:
        """Go on from the state in `folder`. Raises `FermoError` if there is none or it is another training's."""
        state = load_state(folder)
        stored = state.header.get("identity", {})
        changed = [key for key, value in self._identity.items() if stored.get(key) != value]
        if changed:
            names = ", ".join(changed)
            raise FermoError(f"{folder} holds a training with other {names}: repeat its settings or start anew")
        alg = self.runner.alg
        self._networks.load_state_dict(state.group("networks"))
        restore_optimizer(alg.optimizer, self._networks, state.group("optimizer"))
        alg.learning_rate = float(state.header["lr"])
        for group in alg.optimizer.param_groups:
            group["lr"] = alg.learning_rate
        self.round = int(state.header["round"])
        self._load_own(state.group(f"process{self.processes.rank}"))

    @cached_property
    def _networks(self) -> nn.ModuleDict:
        return nn.ModuleDict({"actor": self.runner.alg.actor, "critic": self.runner.alg.critic})

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What must agree for a resumed training to be the same training, as plain JSON."""
        free = ("iterations", "log_every", "checkpoint_every")
        settings = {key: value for key, value in dataclasses.asdict(self.config).items() if key not in free}
        world = {"task": self.env.env.task.name, "num_envs": self.env.num_envs, "processes": self.processes.count}
        return json.loads(json.dumps(settings | world))

    def _own(self) -> dict[str, Tensor]:
        """What this process has for itself: worlds, episodes under way and random streams."""
        tensors = {f"env.{name}": tensor for name, tensor in self.env.env.state_dict().items()}
        tensors |= {f"metrics.{name}": tensor for name, tensor in self.metrics.state().items()}
        tensors |= {"obs": self.env.get_observations()["policy"].clone(), "random": torch.get_rng_state()}
        if self.env.env.device.type == "cuda":
            tensors["cuda_random"] = torch.cuda.get_rng_state(self.env.env.device)
        return tensors

    def _load_own(self, tensors: dict[str, Tensor]) -> None:
        def group(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}

        self.env.env.load_state_dict(group("env."))
        self.metrics.load(group("metrics."))
        self.env.resume(tensors["obs"])
        torch.set_rng_state(tensors["random"])
        if "cuda_random" in tensors and self.env.env.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["cuda_random"], self.env.env.device)


def train_ppo(env: VectorEnv, config: PpoConfig, *, seed: int = 0, folder: str | Path | None = None,
              resume: bool = False, processes: Processes | None = None) -> ActorMlpPolicy:  # fmt: skip
    """Train an actor in the worlds of `env`.

    Args:
        env: The worlds, in SAME_STEP mode.
        config: Settings.
        seed: Of the networks and the exploration.
        folder: Gets the resumable state and TensorBoard metrics; nothing is written when None.
        resume: Go on from the state in `folder`.
        processes: Which other processes train the same networks on other worlds.

    Raises:
        TrainingInterrupted: Ctrl-C was pressed; the state was saved after a whole round.
        FermoError: Settings are unusable, training diverged, or there is nothing to resume.
    """
    trainer = PpoTrainer(env, config, seed=seed, processes=processes)
    folder = Path(folder) if folder is not None else None
    if resume:
        if folder is None:
            raise FermoError("resume needs the folder that holds the training state")
        trainer.restore(folder)
    rounds = Rounds(config, config.iterations, trainer.round, folder, trainer.processes, trainer.save)
    with rounds.running("ppo"):
        while rounds.done < rounds.total:
            trainer.take_round()
            rounds.finish(lambda: trainer.metrics.take(trainer.processes), trainer.steps)
    return trainer.policy()


def _settings(config: PpoConfig) -> dict[str, Any]:
    """The config as rsl_rl wants it."""
    network = {"class_name": "MLPModel", "hidden_dims": config.hidden, "activation": config.activation,
               "obs_normalization": config.normalize_observations}  # fmt: skip
    gaussian = {"class_name": "GaussianDistribution", "init_std": config.init_std, "std_type": "log"}
    algorithm = {
        "class_name": TimeOutPpo, "num_learning_epochs": config.epochs, "num_mini_batches": config.minibatches,
        "clip_param": config.clip, "gamma": config.gamma, "lam": config.gae_lambda, "value_loss_coef": config.value,
        "entropy_coef": config.entropy, "learning_rate": config.lr, "max_grad_norm": config.max_grad_norm,
        "schedule": config.schedule, "desired_kl": config.desired_kl,
    }  # fmt: skip
    return {
        "num_steps_per_env": config.rollout_steps, "save_interval": config.iterations, "check_for_nan": False,
        "obs_groups": {"actor": ["policy"], "critic": ["policy"]}, "algorithm": algorithm,
        "actor": network | {"distribution_cfg": gaussian}, "critic": network,
    }  # fmt: skip
