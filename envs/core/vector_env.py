"""A batch of worlds as a `gymnasium.vector.VectorEnv` whose arrays are torch tensors on the back end's device."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from fermo.envs.core import nan_guard
from fermo.envs.core.backend import BackendError, make_backend
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.task import Simulation, Task
from fermo.envs.perturbations.base import Perturbation
from fermo.signal import Signal


class VectorEnv(gymnasium.vector.VectorEnv):
    """N worlds of one task.

    ``step(actions (N, command_size))`` returns ``obs (N, observation_size)``, ``reward (N,)``, ``terminated (N,)``,
    ``truncated (N,)`` and ``info`` with

    - ``"reward_terms"``: each term by name ``(N,)``;
    - ``"success"``: ``(N,)`` bool, where the task defines it, before any reset;
    - ``"failed"``: ``(N,)`` bool, worlds whose physics diverged and were frozen (they also count as terminated);
    - ``"final_obs"`` ``(N, observation_size)`` and ``"_final_obs"`` ``(N,)`` bool in SAME_STEP mode.

    An action that is not finite is an error, never physics. A failed world ignores its actions, and its observation and
    reward are finite whatever its state was.

    Autoreset: NEXT_STEP resets a finished world in the following `step` (its action is ignored, its reward 0),
    SAME_STEP at once (the last observation in ``final_obs``), DISABLED leaves it to
    ``reset(options={"reset_mask": mask})``.

    Args:
        task: What to simulate.
        num_envs: N.
        backend: ``"cpu"`` or ``"warp"``.
        seed: Of every random number; a world's episode depends on (seed, world, episode) alone.
        autoreset_mode: When finished worlds restart.
        perturbations: Applied in this order.
        worlds: The number of each world, 0 to N - 1 when None: a batch can be split over processes, and worlds of one
            number share every random draw.
        dump_folder: Where diverged states are written for ``fermo play``; in the temporary directory when None.
        backend_options: Passed to the back end, for example ``{"num_threads": 2}``.
    """

    def __init__(
        self,
        task: Task,
        num_envs: int,
        *,
        backend: str = "cpu",
        seed: int = 0,
        autoreset_mode: AutoresetMode = AutoresetMode.NEXT_STEP,
        perturbations: Sequence[Perturbation] = (),
        worlds: Tensor | None = None,
        dump_folder: Path | None = None,
        backend_options: dict[str, Any] | None = None,
    ) -> None:
        self.task = task
        self.num_envs = num_envs
        model = task.engine_model(backend)
        self.backend = make_backend(backend, model, num_envs, refresh=task.refresh, **(backend_options or {}))
        self.device = self.backend.device
        self.metadata = {"autoreset_mode": autoreset_mode, "render_modes": []}
        self.autoreset_mode = autoreset_mode
        self.perturbations = tuple(perturbations)
        self.dump_folder = dump_folder
        numbers = torch.arange(num_envs) if worlds is None else worlds
        if numbers.shape != (num_envs,):
            raise BackendError(f"worlds has shape ({num_envs},) here, got {tuple(numbers.shape)}")
        numbers = numbers.to(self.device, torch.int64)
        self.episode = torch.full_like(numbers, -1)
        self.random = WorldRandom(seed, numbers, self.episode)
        self.steps = torch.zeros_like(numbers)
        self.sim = Simulation(self.backend, self.random, self.steps)
        self.sim.sensors = task.make_sensors(num_envs, self.device)
        self._done = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self._checked: set[str] = set()
        self._bound = False
        self.single_observation_space = _box(task.spec.observations, task.dtype)
        self.single_action_space = _box(task.spec.commands, torch.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        for perturbation in self.perturbations:
            perturbation.attach(self)

    @property
    def seed(self) -> int:
        """Seed of every random number."""
        return self.random.seed

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """Begin episodes in every world, or in those of ``options["reset_mask"]`` ``(N,)`` bool."""
        mask = torch.ones_like(self._done)
        if options and "reset_mask" in options:
            mask = torch.as_tensor(options["reset_mask"], dtype=torch.bool, device=self.device)
            if mask.shape != (self.num_envs,):
                raise BackendError(f"reset_mask has shape ({self.num_envs},) here, got {tuple(mask.shape)}")
        if seed is not None:
            if not mask.all():
                raise BackendError("a seed is the whole batch's: reset every world with it, or leave it out")
            self.random.seed = int(seed) & 0xFFFFFFFF
            self.episode[mask] = -1
        self._reset(mask)
        return self._observe(), {}

    def step(self, actions: Tensor | np.ndarray) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """Advance every world by one control step."""
        if not self._bound:
            raise BackendError("call reset() before the first step()")
        action = torch.as_tensor(actions, device=self.device)
        if action.shape != (self.num_envs, self.task.spec.command_size):
            raise BackendError(
                f"actions have shape ({self.num_envs}, {self.task.spec.command_size}) here, got {tuple(action.shape)}"
            )
        restart = self._done.clone() if self.autoreset_mode == AutoresetMode.NEXT_STEP else None
        ignored = self.backend.failed if restart is None else self.backend.failed | restart
        action = action.masked_fill(ignored[:, None], 0.0)
        if not torch.isfinite(action).all():
            worlds = torch.nonzero(~torch.isfinite(action).all(dim=1)).flatten().tolist()
            raise BackendError(f"the action of world(s) {worlds} is not finite: look for NaN in the policy's input")
        self._advance(action)
        reward, terminated, truncated, info = self._judge(action)
        if restart is not None and restart.any():
            self._reset(restart)
            reward = reward.masked_fill(restart, 0.0)
            terminated, truncated = terminated & ~restart, truncated & ~restart
            info["reward_terms"] = {name: term.masked_fill(restart, 0.0) for name, term in info["reward_terms"].items()}
            info |= {flag: info[flag] & ~restart for flag in ("failed", "success") if flag in info}
        self._done = terminated | truncated
        obs = self._observe()
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            done = self._done
            info["final_obs"], info["_final_obs"] = obs, done
            if done.any():
                self._reset(done)
                obs = torch.where(done[:, None], self._observe(), obs)
        return obs, reward, terminated, truncated, info

    def _advance(self, action: Tensor) -> None:
        for perturbation in self.perturbations:
            action = perturbation.action(self, action)
        ctrl = self.task.ctrl(action, self.sim)
        self._check("ctrl", ctrl, (self.num_envs, self.task.model.nu))
        self.sim.before = {name: self.sim[name].clone() for name in self.task.before_fields}
        for perturbation in self.perturbations:
            perturbation.before_step(self)
        failed_before = self.backend.failed.clone()
        self.backend.step(ctrl, self.task.substeps)
        new = self.backend.failed & ~failed_before
        if new.any():
            nan_guard.report(self, ctrl, torch.nonzero(new).flatten().tolist())
        self.steps += 1
        for sensor in self.sim.sensors.values():
            sensor.update(self.sim)

    def _judge(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        terms = self.task.reward(self.sim, action)
        for name, term in terms.items():
            self._check(f"reward term {name!r}", term, (self.num_envs,))
        failed = self.backend.failed.clone()
        if failed.any():
            terms = {name: _finite_where(failed, term) for name, term in terms.items()}
        terminated = self.task.terminated(self.sim)
        self._check("terminated", terminated, (self.num_envs,))
        info: dict[str, Any] = {"reward_terms": terms, "failed": failed}
        success = self.task.success(self.sim)
        if success is not None:
            self._check("success", success, (self.num_envs,))
            info["success"] = success & ~failed
        total = self.task.total(terms)
        return total.to(self.task.dtype), terminated | failed, self.steps >= self.task.max_steps, info

    def _reset(self, mask: Tensor) -> None:
        """Begin new episodes in the worlds of `mask`; the others keep everything."""
        self.episode[mask] += 1
        self.steps[mask] = 0
        self._done = self._done & ~mask
        chosen = WorldRandom(self.random.seed, self.random.worlds[mask], self.episode[mask])
        rows = self.task.initial_state(chosen)
        qpos, qvel = self.sim["qpos"].clone(), self.sim["qvel"].clone()
        for name, full, part in (("qpos", qpos, rows[0]), ("qvel", qvel, rows[1])):
            self._check(f"initial {name}", part, (len(chosen.worlds), full.shape[1]))
            full[mask] = part.to(full.dtype)
        self.backend.reset(mask, qpos, qvel)
        for perturbation in self.perturbations:
            perturbation.reset(self, mask)
        self.backend.forward(mask)
        if not self._bound:
            self._bind_fields()
        self._reset_sensors(mask)

    def _reset_sensors(self, mask: Tensor) -> None:
        for sensor in self.sim.sensors.values():
            sensor.reset(mask, self.sim)

    def _bind_fields(self) -> None:
        """Call the task's functions once: the engine copies a field out only after somebody asked for it.

        What sensors remember of these calls is undone by the reset that follows.
        """
        self._bound = True
        self._reset_sensors(torch.ones_like(self._done))
        self.sim.before = {name: self.sim[name].clone() for name in self.task.before_fields}
        action = torch.zeros(self.num_envs, self.task.spec.command_size, device=self.device)
        self.task.ctrl(action, self.sim)
        self.task.reward(self.sim, action)
        self.task.terminated(self.sim)
        self.task.success(self.sim)
        self.task.observation(self.sim)

    def _observe(self) -> Tensor:
        terms = self.task.observation(self.sim)
        for signal in self.task.spec.observations:
            if signal.name not in terms:
                raise BackendError(f"task {self.task.name} declares {signal.name!r} but does not observe it")
            self._check(f"observation {signal.name!r}", terms[signal.name], (self.num_envs, *signal.shape))
        parts = [terms[signal.name].reshape(self.num_envs, -1) for signal in self.task.spec.observations]
        obs = torch.cat(parts, dim=1).to(self.task.dtype)
        if self.backend.failed.any():
            obs = _finite_where(self.backend.failed, obs)
        for perturbation in self.perturbations:
            obs = perturbation.observation(self, obs)
        return obs

    def _check(self, what: str, value: Tensor, shape: tuple[int, ...]) -> None:
        """Once per term: a wrong shape broadcasts silently and is found days later."""
        if what in self._checked:
            return
        if tuple(value.shape) != shape:
            raise BackendError(f"task {self.task.name}: {what} has shape {tuple(value.shape)}, expected {shape}")
        self._checked.add(what)


def _finite_where(failed: Tensor, value: Tensor) -> Tensor:
    """`value` with zero for what is not finite in the failed worlds: NaN ends there, it does not reach a learner."""
    rows = failed.reshape(-1, *(1,) * (value.ndim - 1))
    return torch.where(rows, value.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), value)


def _box(signals: tuple[Signal, ...], dtype: torch.dtype) -> gymnasium.spaces.Box:
    numpy_dtype = np.float64 if dtype == torch.float64 else np.float32
    low = np.array([value for signal in signals for value in signal.low], dtype=numpy_dtype)
    high = np.array([value for signal in signals for value in signal.high], dtype=numpy_dtype)
    return gymnasium.spaces.Box(low, high, dtype=numpy_dtype)
