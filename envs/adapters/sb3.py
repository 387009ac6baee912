"""A batch of worlds as Stable-Baselines3's `VecEnv`: NumPy arrays, one copy each way a step."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from fermo.envs.core.vector_env import VectorEnv
from fermo.errors import FermoError


class Sb3VecEnv(VecEnv):
    """What `DummyVecEnv` of N Monitors gives, from one `VectorEnv`.

    A finished world's info holds ``"terminal_observation"`` ``(observation_size,)``, ``"TimeLimit.truncated"`` (the
    clock ran out and the task's own rules did not end it), ``"episode"`` with return ``r``, length ``l`` and seconds
    since the start ``t``, and ``"is_success"`` where the task defines it; the other worlds' infos are empty.

    Args:
        env: In SAME_STEP mode, so that the observation after an episode's last is already the next one's first.
    """

    def __init__(self, env: VectorEnv) -> None:
        if env.autoreset_mode != AutoresetMode.SAME_STEP:
            raise FermoError("Stable-Baselines3 resets in the same step: make the VectorEnv with SAME_STEP autoreset")
        self.env = env
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)
        self.episode_return = np.zeros(env.num_envs)
        self.episode_length = np.zeros(env.num_envs, dtype=np.int64)
        self._started = time.perf_counter()
        self._actions: np.ndarray | None = None

    def reset(self) -> np.ndarray:
        """Begin an episode in every world; `seed` before it makes them repeatable."""
        obs, _ = self.env.reset(seed=self._seeds[0])
        self._reset_seeds()
        self._reset_options()
        self.episode_return[:], self.episode_length[:] = 0.0, 0
        return np.array(obs.cpu())

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions ``(N, command_size)`` for `step_wait`; a batch has no other process to send them to."""
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Observations ``(N, observation_size)``, rewards ``(N,)`` float32, dones ``(N,)`` bool and an info a world."""
        assert self._actions is not None, "step_async comes first"
        obs, reward, terminated, truncated, info = self.env.step(torch.from_numpy(self._actions))
        success = info.get("success")
        columns = [obs, info["final_obs"], *map(_column, (reward, terminated, truncated))]
        columns += [] if success is None else [_column(success)]
        packed = torch.cat([column.to(obs.dtype) for column in columns], dim=1).cpu().numpy()
        size = obs.shape[1]
        observed, final = packed[:, :size], packed[:, size : 2 * size]
        rewards, flags = packed[:, 2 * size].astype(np.float32), packed[:, 2 * size + 1 :] != 0.0
        dones = flags[:, 0] | flags[:, 1]
        self.episode_return += packed[:, 2 * size]
        self.episode_length += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for world in np.flatnonzero(dones):
            infos[world] = self._last_info(world, final[world].copy(), flags[world])
        self.episode_return[dones], self.episode_length[dones] = 0.0, 0
        return observed, rewards, dones, infos

    def _last_info(self, world: int, final: np.ndarray, flags: np.ndarray) -> dict[str, Any]:
        """What is told of an episode's last step; `flags` are terminated, truncated and perhaps success."""
        episode = {
            "r": float(self.episode_return[world]),
            "l": int(self.episode_length[world]),
            "t": time.perf_counter() - self._started,
        }
        clock = bool(flags[1] and not flags[0])
        told = {"terminal_observation": final, "TimeLimit.truncated": clock, "episode": episode}
        return told if len(flags) == 2 else told | {"is_success": bool(flags[2])}

    def close(self) -> None:
        """See `VectorEnv.close`."""
        self.env.close()

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed of the whole batch from the next `reset` on; world i's episodes depend on it and on i."""
        first = super().seed(seed)[0]
        self._seeds = [first] * self.num_envs
        return self._seeds

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """An attribute of the batch, the same for every world."""
        return [getattr(self.env, attr_name)] * len(self._worlds(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the whole batch; `FermoError` for a part of it, as the worlds share one object."""
        self._require_all(indices, attr_name)
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any) -> list[Any]:
        """Call a method of the batch once and repeat its answer; `FermoError` for a part of it."""
        self._require_all(indices, method_name)
        return [getattr(self.env, method_name)(*method_args, **method_kwargs)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: type[gymnasium.Wrapper], indices: Any = None) -> list[bool]:
        """Never by Gymnasium's wrappers; a Monitor would have nothing to add, so the answer for it is yes."""
        from stable_baselines3.common.monitor import Monitor

        return [issubclass(wrapper_class, Monitor)] * len(self._worlds(indices))

    def _worlds(self, indices: Any) -> Sequence[int]:
        return range(self.num_envs) if indices is None else list(self._get_indices(indices))

    def _require_all(self, indices: Any, name: str) -> None:
        if len(self._worlds(indices)) != self.num_envs:
            raise FermoError(f"{name} belongs to the whole batch: leave indices out")


def _column(values: Tensor) -> Tensor:
    return values[:, None]
