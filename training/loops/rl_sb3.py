"""Stable-Baselines3's PPO, TD3 and SAC over a batch of worlds, saved and resumed exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from fermo.envs.adapters.sb3 import Sb3VecEnv
from fermo.envs.core.vector_env import VectorEnv
from fermo.errors import FermoError
from fermo.policies.actor_mlp.config import ActorMlpConfig
from fermo.policies.actor_mlp.policy import ActorMlpPolicy
from fermo.training.loops.processes import Processes
from fermo.training.loops.rl_config import OffPolicyConfig, SacConfig, Sb3PpoConfig, Td3Config
from fermo.training.loops.rl_rounds import Rounds
from fermo.training.loops.rl_sb3_state import restore_learner, save_learner

Sb3Config = Sb3PpoConfig | Td3Config | SacConfig

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


class _Between(BaseCallback):
    """Does between two rounds what `Rounds` does, and counts the episodes that end."""

    def __init__(self, rounds: Rounds) -> None:
        super().__init__()
        self._rounds = rounds
        self._fresh = True
        self._ended: list[dict[str, Any]] = []

    def _on_step(self) -> bool:
        self._ended += [info for info in self.locals["infos"] if "episode" in info]
        return True

    def _on_rollout_start(self) -> None:  # the round before it has learned by now
        if not self._fresh:
            self._rounds.finish(self.take, self.num_timesteps)
        self._fresh = False

    def _on_training_end(self) -> None:
        self._rounds.finish(self.take, self.num_timesteps)

    def take(self) -> Mapping[str, float]:
        """Means over the episodes that ended since the last call, and what the learner says of itself."""
        told = self.logger.name_to_value.items()
        metrics = {f"loss/{name.removeprefix('train/')}": float(value) for name, value in told}
        ended, self._ended = self._ended, []
        if ended:
            metrics["episode/return"] = float(np.mean([info["episode"]["r"] for info in ended]))
            metrics["episode/length"] = float(np.mean([info["episode"]["l"] for info in ended]))
        if ended and "is_success" in ended[0]:
            metrics["episode/success"] = float(np.mean([info["is_success"] for info in ended]))
        return metrics


class Sb3Trainer:
    """One training under way.

    Args:
        env: The worlds, in SAME_STEP mode.
        config: Settings; their class chooses the learner.
        seed: Of the networks and the exploration; `env` has its own.
    """

    def __init__(self, env: VectorEnv, config: Sb3Config, *, seed: int = 0) -> None:
        self.env, self.config = Sb3VecEnv(env), config
        normalize = isinstance(config, Sb3PpoConfig) and config.normalize
        self.normalize = VecNormalize(self.env, gamma=config.gamma) if normalize else None
        self.model = _model(config, self.normalize or self.env, seed)
        self.model.set_logger(Logger(folder=None, output_formats=[]))
        self.model.action_space.seed(seed)

    @property
    def round(self) -> int:
        """Rounds so far."""
        return self.model.num_timesteps // self.steps_a_round

    @property
    def steps_a_round(self) -> int:
        """Control steps of all worlds in a round."""
        per_world = self.config.rollout_steps if isinstance(self.config, Sb3PpoConfig) else 1
        return per_world * self.env.num_envs

    def learn(self, rounds: Rounds) -> None:
        """Collect and learn until all rounds are done."""
        left = (rounds.total - rounds.done) * self.steps_a_round
        never: Any = None  # `Rounds` logs
        self.model.learn(left, callback=_Between(rounds), log_interval=never, reset_num_timesteps=False)

    def policy(self) -> ActorMlpPolicy:
        """The actor without its exploration, as it stands."""
        actor: Any = self.model.policy
        squash = "clip" if isinstance(self.config, Sb3PpoConfig) else "tanh"
        clip = None if self.normalize is None else self.normalize.clip_obs
        config = ActorMlpConfig(hidden=self.config.hidden, activation=self.config.activation, squash=squash,
                                observation_clip=clip)  # fmt: skip
        policy = ActorMlpPolicy(self.env.env.task.spec, config)
        if isinstance(self.model, PPO):
            self._take_over_ppo(policy, actor)
        else:
            parts = [actor.actor.mu] if isinstance(self.model, TD3) else [actor.actor.latent_pi, actor.actor.mu]
            policy.take_over(_linears(*parts))
        return policy.eval()

    def _take_over_ppo(self, policy: ActorMlpPolicy, actor: Any) -> None:
        """SB3's PPO acts in the commands' own units: its last layer is brought to their half ranges."""
        layers = _linears(actor.mlp_extractor.policy_net, actor.action_net)
        centre, half = policy.action_normalizer.mean, policy.action_normalizer.std
        last = nn.Linear(layers[-1].in_features, layers[-1].out_features)
        with torch.no_grad():
            last.weight.copy_(layers[-1].weight / half[:, None])
            last.bias.copy_((layers[-1].bias - centre) / half)
        if self.normalize is None:
            policy.take_over([*layers[:-1], last])
        else:
            statistics: Any = self.normalize.obs_rms
            std = np.sqrt(statistics.var + self.normalize.epsilon)
            policy.take_over([*layers[:-1], last], torch.as_tensor(statistics.mean), torch.as_tensor(std))

    def save(self, folder: Path) -> None:
        """Write the state from which `restore` goes on."""
        save_learner(folder, self.model, self.env, self.normalize, self._identity)

    def restore(self, folder: Path) -> None:
        """Go on from the state in `folder`. Raises `FermoError` if there is none or it is another training's."""
        restore_learner(folder, self.model, self.env, self.normalize, self._identity)

    @property
    def _identity(self) -> dict[str, Any]:
        task = self.env.env.task.name
        return {"learner": type(self.model).__name__, "task": task, "num_envs": self.env.num_envs,
                "hidden": list(self.config.hidden)}  # fmt: skip


def train_sb3(env: VectorEnv, config: Sb3Config, *, seed: int = 0, folder: str | Path | None = None,
              resume: bool = False) -> ActorMlpPolicy:  # fmt: skip
    """Train an actor in the worlds of `env`; arguments and errors are those of `fermo.training.loops.rl_ppo`."""
    trainer = Sb3Trainer(env, config, seed=seed)
    folder = Path(folder) if folder is not None else None
    if resume:
        if folder is None:
            raise FermoError("resume needs the folder that holds the training state")
        trainer.restore(folder)
    total = -(-config.steps // trainer.steps_a_round)
    rounds = Rounds(config, total, trainer.round, folder, Processes(), trainer.save)
    if rounds.done < total:
        with rounds.running(type(trainer.model).__name__.lower()):
            trainer.learn(rounds)
    return trainer.policy()


def _model(config: Sb3Config, env: Any, seed: int) -> BaseAlgorithm:
    networks: dict[str, Any] = {"net_arch": list(config.hidden), "activation_fn": _ACTIVATIONS[config.activation]}
    shared: dict[str, Any] = {"learning_rate": config.lr, "gamma": config.gamma, "seed": seed, "device": "cpu"}
    if isinstance(config, Sb3PpoConfig):
        return PPO("MlpPolicy", env, n_steps=config.rollout_steps, batch_size=config.batch_size, n_epochs=config.epochs,
                   gae_lambda=config.gae_lambda, clip_range=config.clip, ent_coef=config.entropy, vf_coef=config.value,
                   max_grad_norm=config.max_grad_norm, **shared,
                   policy_kwargs=networks | {"log_std_init": config.log_std, "ortho_init": False})  # fmt: skip
    shared |= {"policy_kwargs": networks, **_off_policy(config)}
    if isinstance(config, SacConfig):
        return SAC("MlpPolicy", env, **shared)
    size = env.action_space.shape[0]
    return TD3("MlpPolicy", env, action_noise=NormalActionNoise(np.zeros(size), np.full(size, config.noise)), **shared)


def _off_policy(config: OffPolicyConfig) -> dict[str, Any]:
    return {"buffer_size": config.buffer_size, "batch_size": config.batch_size, "tau": config.tau, "train_freq": 1,
            "learning_starts": config.learning_starts, "gradient_steps": config.gradient_steps}  # fmt: skip


def _linears(*modules: nn.Module) -> list[nn.Linear]:
    """Linear layers in order."""
    return [layer for module in modules for layer in module.modules() if isinstance(layer, nn.Linear)]
