"""One control step of a task as a map of states, ``x+ = f(x, u)``, batched: no episodes, no randomness, no memory."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from fermo.envs.core.backend import make_backend
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Simulation, Task
from fermo.errors import FermoError

Array = NDArray[np.float64]


class ControlStep:
    """``f`` and the observation ``o(x)`` of a task, for up to `worlds` states at a time.

    The state is ``x = (qpos, qvel)`` in SI units. The same back end, substeps and observation as in the task's
    environment, so what is said of f is said of what policies are trained and tried on.

    Args:
        task: A task whose state is that of its joints.
        worlds: States that are stepped together.

    Raises:
        FermoError: The task's state is more than its joints' positions and velocities, or not a vector space.
    """

    def __init__(self, task: Task, worlds: int = 256) -> None:
        model = task.engine_model("cpu")
        sensors = task.make_sensors(1, torch.device("cpu"))
        if model.nq != model.nv or model.na or sensors:
            reason = "its rotations are quaternions" if model.nq != model.nv else "its actuators or sensors remember"
            raise FermoError(f"{task.name} has no state (qpos, qvel) to linearise in: {reason}; try CartPole")
        self.task, self.worlds, self.nq, self.n = task, worlds, model.nq, model.nq + model.nv
        self._backend = make_backend("cpu", model, worlds, num_threads=1, refresh=task.refresh)
        zeros = torch.zeros(worlds, dtype=torch.int64)
        self._sim = Simulation(self._backend, WorldRandom(0, torch.arange(worlds), zeros), zeros)
        self._everyone = torch.ones(worlds, dtype=torch.bool)

    def __call__(self, x: Array, u: Array) -> Array:
        """``f(x, u)`` of states ``(N, n)`` and actions ``(N, m)``, shape ``(N, n)``.

        Raises:
            FermoError: A state diverged within the step.
        """
        return np.concatenate([self._step(*part) for part in zip(*map(self._parts, (x, u)), strict=True)])

    def observe(self, x: Array) -> Array:
        """``o(x)``, shape ``(N, observation_size)``."""
        return np.concatenate([self._observe(part) for part in self._parts(x)])

    def _parts(self, rows: Array) -> list[Array]:
        return [rows[start : start + self.worlds] for start in range(0, len(rows), self.worlds)]

    def _place(self, x: Array) -> None:
        state = torch.zeros(self.worlds, self.n, dtype=torch.float64)
        state[: len(x)] = torch.from_numpy(np.ascontiguousarray(x))
        self._backend.reset(self._everyone, state[:, : self.nq], state[:, self.nq :])
        self._backend.forward(self._everyone)

    def _step(self, x: Array, u: Array) -> Array:
        self._place(x)
        action = torch.zeros(self.worlds, u.shape[1], dtype=torch.float64)
        action[: len(u)] = torch.from_numpy(np.ascontiguousarray(u))
        self._backend.step(self.task.ctrl(action, self._sim), self.task.substeps)
        if self._backend.failed.any():
            raise FermoError(f"{self.task.name} diverges from a state within the box: make the box smaller")
        return torch.cat([self._sim["qpos"], self._sim["qvel"]], dim=1)[: len(x)].numpy().copy()

    def _observe(self, x: Array) -> Array:
        self._place(x)
        terms = self.task.observation(self._sim)
        rows = [terms[signal.name].reshape(self.worlds, -1) for signal in self.task.spec.observations]
        return torch.cat(rows, dim=1)[: len(x)].double().numpy().copy()
