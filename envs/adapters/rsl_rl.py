"""A batch of worlds as rsl_rl's `VecEnv`: the same tensors on the same device, nothing passes through NumPy."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium.vector import AutoresetMode
from rsl_rl.env import VecEnv
from tensordict import TensorDict
from torch import Tensor

from fermo.envs.core.vector_env import VectorEnv
from fermo.errors import FermoError
from fermo.signal import Signal


class RslRlVecEnv(VecEnv):
    """`VectorEnv` with the signatures of rsl-rl-lib 5.

    The learner acts in units of the commands' half ranges: ``command = centre + half_range * clamp(action, -1, 1)``.
    Its observations are one group, ``"policy" (N, observation_size)`` float32, which is the environment's own tensor
    unless that holds float64.

    ``extras`` hold ``"time_outs" (N,)``, worlds whose clock ran out and that the task's own rules did not end, and
    ``"final_observations"``, a `TensorDict` of the last observations, which `fermo.training.loops.rl_ppo` bootstraps
    from; ``"success" (N,)`` where the task defines it.

    Args:
        env: In SAME_STEP mode.
        reward_scale: Factor on every reward; what a value network can learn quickly is of the order of one.
    """

    def __init__(self, env: VectorEnv, *, reward_scale: float = 1.0) -> None:
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise FermoError("rsl_rl resets in the same step: make the VectorEnv with SAME_STEP autoreset")
        self.env, self.reward_scale = env, reward_scale
        self.num_envs, self.num_actions = env.num_envs, env.task.spec.command_size
        self.max_episode_length, self.device = env.task.max_steps, env.device
        self.cfg = {"task": env.task.name, "seed": env.seed}
        self.centre, self.half_range = command_range(env.task.spec.commands, env.device)
        self._obs: TensorDict | None = None

    @property
    def episode_length_buf(self) -> Tensor:  # type: ignore[override]
        """Control steps since each episode began, ``(N,)`` int64; assigning moves the worlds' clocks."""
        return self.env.steps

    @episode_length_buf.setter
    def episode_length_buf(self, steps: Tensor) -> None:
        self.env.steps.copy_(steps)

    def get_observations(self) -> TensorDict:
        """The present observations; the first call begins the episodes."""
        if self._obs is None:
            self._obs = self._group(self.env.reset()[0])
        return self._obs

    def step(self, actions: Tensor) -> tuple[TensorDict, Tensor, Tensor, dict[str, Any]]:
        """Advance by one control step: observations, reward ``(N,)`` float32, done ``(N,)`` int64 and extras."""
        command = torch.addcmul(self.centre, self.half_range, actions.clamp(-1.0, 1.0))
        obs, reward, terminated, truncated, info = self.env.step(command)
        self._obs = self._group(obs)
        extras = {
            "time_outs": truncated & ~terminated,
            "final_observations": self._group(info["final_obs"]),
        }
        extras |= {"success": info["success"]} if "success" in info else {}
        return self._obs, self.reward_scale * reward.float(), (terminated | truncated).long(), extras

    def resume(self, obs: Tensor) -> None:
        """Go on from `obs` ``(N, observation_size)``, once the environment itself is back where they were seen."""
        self._obs = self._group(obs.to(self.device))

    def _group(self, obs: Tensor) -> TensorDict:
        return TensorDict({"policy": obs.float()}, batch_size=[self.num_envs], device=self.device)


def command_range(commands: tuple[Signal, ...], device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Centre and half range of every command, ``(command_size,)`` each, float32; `FermoError` when one is unbounded."""
    low = torch.tensor([value for signal in commands for value in signal.low], dtype=torch.float32, device=device)
    high = torch.tensor([value for signal in commands for value in signal.high], dtype=torch.float32, device=device)
    if not (low.isfinite() & high.isfinite()).all():
        names = ", ".join(signal.name for signal in commands)
        raise FermoError(f"a learner needs bounded commands, and {names} have none in some element")
    return (low + high) / 2, (high - low) / 2
