"""The task contract: a model and pure batched functions of the simulation."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Protocol

import mujoco
import torch
from torch import Tensor

from fermo.envs.core.backend import Backend
from fermo.envs.core.random import WorldRandom
from fermo.signal import PlantSpec


class Sensor(Protocol):
    """A device with a memory of its own, such as a camera-based tracker with latency."""

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """Begin new episodes in the worlds of `mask` ``(N,)`` bool, from their present state."""
        ...

    def update(self, sim: Simulation) -> None:
        """Look at the state after a control step."""
        ...


class Simulation:
    """What a task's functions may look at.

    Attributes:
        backend: The engine; ``sim["qpos"]`` is short for ``sim.backend.read("qpos")``.
        before: Copies of the fields that the task named in `Task.before_fields`, taken before the control step.
        sensors: The task's sensors by name.
        steps: Control steps since the episode began, shape ``(N,)`` int64.
        random: Random numbers of the worlds' present episodes.
    """

    def __init__(self, backend: Backend, random: WorldRandom, steps: Tensor) -> None:
        self.backend = backend
        self.random = random
        self.steps = steps
        self.before: dict[str, Tensor] = {}
        self.sensors: Mapping[str, Any] = {}

    def __getitem__(self, field: str) -> Tensor:
        return self.backend.read(field)


class Task(ABC):
    """One environment: a frozen config, a compiled model and pure batched functions.

    Attributes:
        name: Registry name, for example ``"fermo/SO101-Reach-v0"``.
        config: The task's frozen config dataclass.
        model: Compiled model.
        spec: Signals and control rate.
        substeps: Physics steps per control step.
        max_steps: Control steps per episode; then it is truncated.
        dtype: Of observations and rewards.
        before_fields: Data fields that `reward` wants as they were before the step.
        refresh: Whether observations come from a fresh kinematic and velocity stage.
    """

    name: str
    config: Any
    model: mujoco.MjModel
    spec: PlantSpec
    substeps: int
    max_steps: int
    dtype: torch.dtype = torch.float32
    before_fields: tuple[str, ...] = ()
    refresh: bool = True

    @abstractmethod
    def initial_state(self, random: WorldRandom) -> tuple[Tensor, Tensor]:
        """Starting states ``qpos (K, nq)`` and ``qvel (K, nv)`` of the K worlds that `random` covers, float64."""

    def initial_parameters(self, random: WorldRandom) -> dict[str, Tensor]:
        """Model fields that differ from episode to episode, rows ``(K, ...)`` by name; see `Backend.set_params`."""
        return {}

    @abstractmethod
    def observation(self, sim: Simulation) -> dict[str, Tensor]:
        """Each observation signal by name, ``(N, *shape)``."""

    @abstractmethod
    def reward(self, sim: Simulation, action: Tensor) -> dict[str, Tensor]:
        """Reward terms by name, each ``(N,)``; `action` is as the caller gave it, in shape and precision."""

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The reward ``(N,)``: the terms added in their order."""
        return functools.reduce(torch.add, terms.values())

    def terminated(self, sim: Simulation) -> Tensor:
        """Whether the episode ended by its own rules, ``(N,)`` bool."""
        return torch.zeros_like(sim.steps, dtype=torch.bool)

    def success(self, sim: Simulation) -> Tensor | None:
        """Whether the task stands solved now, ``(N,)`` bool; None where success is not defined."""
        return None

    def ctrl(self, action: Tensor, sim: Simulation) -> Tensor:
        """Actuator input for an action, ``(N, nu)``."""
        return action

    def make_sensors(self, num_worlds: int, device: torch.device) -> Mapping[str, Sensor]:
        """The task's sensors by name."""
        return {}

    def engine_model(self, backend: str) -> mujoco.MjModel:
        """The model as the back end called `backend` needs it; its physics and sizes are those of `model`."""
        return self.model

    def picture_model(self) -> mujoco.MjModel:
        """The model for pictures: the same `qpos`, and perhaps lighter meshes."""
        return self.model

    @property
    def control_dt(self) -> float:
        """Time between actions [s]."""
        return self.substeps * self.model.opt.timestep
