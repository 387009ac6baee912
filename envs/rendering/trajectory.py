"""Pictures of a recorded trajectory: OpenGL where it starts, the ray-cast camera anywhere."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

import mujoco
import mujoco.batch
import numpy as np

from fermo.envs.rendering.raycast import RayCastCamera, RayCastConfig
from fermo.errors import FermoError

_WORLDS = 16  # pictures made in one call: enough to keep the threads busy, few enough for the memory


class TrajectoryRenderer(Protocol):
    """Makes pictures of configurations of one model.

    Attributes:
        name: What makes them, for people.
    """

    name: str

    def frames(self, qpos: np.ndarray) -> Iterator[np.ndarray]:
        """One picture ``(height, width, 3)`` uint8 for each row of `qpos` ``(T, nq)``."""
        ...


class RayCastRenderer:
    """The ray-cast camera on a batch of its own: one world a picture.

    Args:
        model: Compiled model; `fermo.envs.rendering.coarse.coarse_visuals` makes a lighter one of the same `qpos`.
        camera: Camera of the model; None takes its first one, or a free camera where it has none.
        width: Pixels across.
        height: Pixels down.
        config: How pictures are made.
        num_threads: Threads over worlds; 0 takes all processors this process may use.
    """

    name = "ray-cast"

    def __init__(
        self, model: mujoco.MjModel, camera: str | None = None, width: int = 320, height: int = 240, *,
        config: RayCastConfig | None = None, num_threads: int = 0,
    ) -> None:  # fmt: skip
        threads = num_threads or len(os.sched_getaffinity(0))
        self._batch = mujoco.batch.Batch(model, nsim=_WORLDS, nthread=threads)
        self._camera = RayCastCamera(self._batch, camera, width, height, config=config)

    def frames(self, qpos: np.ndarray) -> Iterator[np.ndarray]:
        """See `TrajectoryRenderer.frames`."""
        qpos = check_trajectory(self._batch.model, qpos)
        for start in range(0, len(qpos), _WORLDS):
            worlds = np.arange(min(_WORLDS, len(qpos) - start))
            self._batch.bind("qpos")[worlds] = qpos[start : start + _WORLDS]
            self._batch.forward(ids=worlds, stage=mujoco.mjtStage.mjSTAGE_POS)
            yield from self._camera.rgb(worlds)


def check_trajectory(model: mujoco.MjModel, qpos: np.ndarray) -> np.ndarray:
    """`qpos` as float64 ``(T, nq)``; `FermoError` where its shape is another or a number is not finite."""
    qpos = np.asarray(qpos, dtype=np.float64)
    if qpos.ndim != 2 or qpos.shape[1] != model.nq:
        raise FermoError(f"a trajectory of this model has shape (T, {model.nq}), got {qpos.shape}")
    if not np.isfinite(qpos).all():
        raise FermoError(f"row {int(np.argmin(np.isfinite(qpos).all(axis=1)))} of the trajectory is not finite")
    return qpos


def make_renderer(
    model: mujoco.MjModel, *, camera: str | None = None, width: int = 320, height: int = 240
) -> TrajectoryRenderer:
    """MuJoCo's own renderer where OpenGL starts on this machine, else the ray-cast one; its `name` says which."""
    from fermo.envs.rendering.gl import GlRenderer, gl_starts

    if gl_starts():
        return GlRenderer(model, camera, width, height)
    return RayCastRenderer(model, camera, width, height)


def render_trajectory(
    model: mujoco.MjModel, qpos: np.ndarray, *, camera: str | None = None, width: int = 320, height: int = 240,
    config: RayCastConfig | None = None,
) -> np.ndarray:  # fmt: skip
    """Ray-cast a whole trajectory ``(T, nq)``: pictures ``(T, height, width, 3)`` uint8, the same on every machine."""
    frames = list(RayCastRenderer(model, camera, width, height, config=config).frames(qpos))
    return np.stack(frames) if frames else np.zeros((0, height, width, 3), np.uint8)
