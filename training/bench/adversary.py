"""Training an adversary against a fixed policy: the policy becomes part of the world, and the adversary acts on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import mujoco
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Sensor, Simulation, Task
from fermo.envs.core.vector_env import VectorEnv
from fermo.policies.actor_mlp.policy import ActorMlpPolicy
from fermo.signal import Signal
from fermo.training.loops.rl_config import PpoConfig

_VICTIM = "victim"


@dataclass
class _Victim:
    """What the victim did last, ``(N, command_size)``: rewards may depend on it. A sensor, so that it is remembered."""

    action: Tensor

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """See `Sensor.reset`."""
        self.action = self.action.masked_fill(mask[:, None], 0.0)

    def update(self, sim: Simulation) -> None:
        """See `Sensor.update`."""


class AdversaryTask(Task):
    """`task` as the adversary of `policy_map` sees it: its action shifts what the policy observes, losses are gains.

    With ``D`` the diagonal of `scale`, the adversary's action ``w`` in [-1, 1] has the victim do
    ``pi(o + severity D w)``, and is paid minus the task's reward. Episodes, successes and states are the task's own.

    Args:
        task: What the victim does.
        policy_map: Observations ``(N, observation_size)`` to actions ``(N, command_size)``.
        severity: Radius of the shift, in units of the scale.
        scale: Per channel ``(observation_size,)``, in the channels' SI units.
    """

    def __init__(self, task: Task, policy_map: Callable[[Tensor], Tensor], *, severity: float, scale: Tensor) -> None:
        self.victim_task, self.policy_map = task, policy_map
        self.radius = severity * scale.detach().clone()
        self.name = f"{task.name}-adversary"
        self.config, self.model, self.substeps, self.max_steps = task.config, task.model, task.substeps, task.max_steps
        self.dtype, self.before_fields, self.refresh = task.dtype, task.before_fields, task.refresh
        shift = Signal.uniform(name="shift", shape=(task.spec.observation_size,), unit="1", low=-1.0, high=1.0,
                               description="of what the victim observes, in units of the radius")  # fmt: skip
        self.spec = dataclasses.replace(task.spec, commands=(shift,))

    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """The task's own."""
        return self.victim_task.initial_state(random)

    def initial_parameters(self, random: WorldRandom) -> dict[str, Tensor]:
        """The task's own."""
        return self.victim_task.initial_parameters(random)

    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        """The task's own, unshifted."""
        return self.victim_task.observation(sim)

    def terminated(self, sim: Simulation) -> Tensor:
        """The task's own."""
        return self.victim_task.terminated(sim)

    def success(self, sim: Simulation) -> Tensor | None:
        """The victim's."""
        return self.victim_task.success(sim)

    def engine_model(self, backend: str) -> mujoco.MjModel:
        """The task's own."""
        return self.victim_task.engine_model(backend)

    def make_sensors(self, num_worlds: int, device: torch.device) -> Mapping[str, Sensor]:
        """The task's sensors, and the victim's last action."""
        action = torch.zeros(num_worlds, self.victim_task.spec.command_size, device=device)
        return {**self.victim_task.make_sensors(num_worlds, device), _VICTIM: _Victim(action)}

    def ctrl(self, action: Tensor, sim: Simulation) -> Tensor:
        """Actuator input of the victim that sees a shifted observation."""
        terms = self.victim_task.observation(sim)
        parts = [terms[signal.name].reshape(len(action), -1) for signal in self.spec.observations]
        obs = torch.cat(parts, dim=1).to(self.dtype)
        with torch.no_grad():
            chosen = self.policy_map(obs + self.radius.to(obs) * action.clamp(-1.0, 1.0).to(obs))
        sim.sensors[_VICTIM].action = chosen
        return self.victim_task.ctrl(chosen, sim)

    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Minus each of the task's terms."""
        terms = self.victim_task.reward(sim, sim.sensors[_VICTIM].action)
        return {name: -term for name, term in terms.items()}

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Minus the task's own sum, which need not be plain."""
        return -self.victim_task.total({name: -term for name, term in terms.items()})


DEFAULT = PpoConfig(iterations=60, rollout_steps=32, epochs=5, minibatches=4, gamma=0.95, init_std=0.5, hidden=(64, 64))
"""Some 120,000 control steps in 64 worlds: a minute on one core for a light task."""


def train_adversary(task: Task, policy_map: Callable[[Tensor], Tensor], *, severity: float, scale: Tensor,
                    num_envs: int = 64, seed: int = 0, config: PpoConfig = DEFAULT,
                    backend_options: dict[str, Any] | None = None) -> ActorMlpPolicy:  # fmt: skip
    """An adversary for `fermo.envs.perturbations.learned_attack.LearnedAttack`, by PPO.

    Args:
        task: What the victim does.
        policy_map: The victim, observations ``(N, observation_size)`` to actions ``(N, command_size)``.
        severity: Radius it is trained at, in units of the scale.
        scale: Per channel ``(observation_size,)``, in the channels' SI units.
        num_envs: Worlds it learns in.
        seed: Of the worlds, the networks and the exploration.
        config: Of the learner.
        backend_options: Of the CPU back end.
    """
    from fermo.training.learn import require

    require("rsl_rl", "rsl-rl-lib")
    from fermo.training.loops.rl_ppo import train_ppo

    attacked = AdversaryTask(task, policy_map, severity=severity, scale=scale)
    env = VectorEnv(attacked, num_envs, seed=seed, autoreset_mode=AutoresetMode.SAME_STEP,
                    backend_options=backend_options)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        return train_ppo(env, config, seed=seed)
