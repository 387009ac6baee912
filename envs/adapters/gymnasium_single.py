"""One world as a plain `gymnasium.Env` whose arrays are NumPy's."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.errors import unknown_name


class SingleEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A task with one world.

    ``reset(seed=s)`` starts the episodes that world 0 of a `VectorEnv` with seed ``s`` sees; a reset without a seed
    goes on to the next one. Episodes are truncated by the task itself, so no ``TimeLimit`` wrapper is needed.

    Args:
        task: Registry name.
        config: The task's config; its defaults when None.
        render_mode: None or ``"rgb_array"``, by ray casting: no display and no OpenGL needed.
        width: Of a picture, in pixels.
        height: Of a picture, in pixels.
        camera: Name of a camera of the model; one that sees the whole model when None.
        backend: ``"cpu"`` or ``"warp"``.
        **arguments: Fields of the task's config to change.
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012 - as gymnasium.Env declares it

    def __init__(
        self,
        task: str,
        config: Any = None,
        *,
        render_mode: str | None = None,
        width: int = 320,
        height: int = 240,
        camera: str | None = None,
        backend: str = "cpu",
        **arguments: Any,
    ) -> None:
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise unknown_name("render_mode", render_mode, self.metadata["render_modes"])
        self.task = make_task(task, config, **arguments)
        self._batch = VectorEnv(self.task, 1, backend=backend, autoreset_mode=AutoresetMode.DISABLED)
        self.observation_space = self._batch.single_observation_space
        self.action_space = self._batch.single_action_space
        self.metadata = self.metadata | {"render_fps": round(1.0 / self.task.control_dt)}
        self.render_mode = render_mode
        self._picture = {"camera": camera, "width": width, "height": height}
        self._renderer = None
        self._seeded = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode; a seed makes it and those after it repeatable."""
        super().reset(seed=seed)
        if seed is None and not self._seeded:
            seed = int(self.np_random.integers(2**32))
        self._seeded = True
        obs, info = self._batch.reset(seed=seed)
        return obs[0].cpu().numpy(), _first(info)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Advance by one control step."""
        obs, reward, terminated, truncated, info = self._batch.step(torch.as_tensor(np.asarray(action))[None])
        return obs[0].cpu().numpy(), float(reward), bool(terminated), bool(truncated), _first(info)

    def render(self) -> np.ndarray | None:
        """The present state as a picture, ``(height, width, 3)`` uint8; None without a render mode."""
        if self.render_mode is None:
            return None
        if self._renderer is None:
            from fermo.envs.rendering.trajectory import RayCastRenderer

            self._renderer = RayCastRenderer(self.task.picture_model(), **self._picture)
        qpos = self._batch.sim["qpos"].cpu().numpy()
        return next(iter(self._renderer.frames(qpos)))


def _first(info: dict[str, Any]) -> dict[str, Any]:
    """World 0's part of a batch's info, as plain numbers."""
    return {key: _first(value) if isinstance(value, dict) else value[0].item() for key, value in info.items()}
