"""A batch of worlds as a `gymnasium.vector.VectorEnv` whose arrays are torch tensors on the back end's device."""

from __future__ import annotations

import math
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
from fermo.envs.core.captured_step import CapturedStep, Incidents
from fermo.envs.core.checkpoint import load_batch, save_batch
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
        captured: Replay the whole step as one CUDA graph, in which no operation waits for a value; what goes wrong is
            then found by `check`. On a CUDA device when None.
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
        captured: bool | None = None,
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
        self.captured = self.device.type != "cpu" if captured is None else captured
        if self.captured and not self.backend.graph_safe:
            raise BackendError(f"a step of the {self.backend.name} back end cannot be captured: use backend='warp'")
        self.random = WorldRandom(seed, numbers, self.episode)
        self.steps = torch.zeros_like(numbers)
        self.sim = Simulation(self.backend, self.random, self.steps)
        self.sim.sensors = task.make_sensors(num_envs, self.device)
        self._done = torch.zeros(num_envs, dtype=torch.bool, device=self.device)
        self._checked: set[str] = set()
        self._bound = False
        self._failing = self.captured  # whether any world is frozen; a captured step cannot know, and acts as if
        self._captured_step = CapturedStep(self) if self.captured else None
        self._incidents = Incidents(self.backend.get_state(), task.model.nu)
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
            self.episode.fill_(-1)
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
        return self._captured_step(action) if self._captured_step else self.eager_step(action)

    def eager_step(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """`step`, as separate operations; in a captured environment nothing here may wait for a tensor's value."""
        restart = self._done.clone() if self.autoreset_mode == AutoresetMode.NEXT_STEP else None
        action = self._usable(action, restart)
        self._advance(action)
        reward, terminated, truncated, info = self._judge(action)
        if restart is not None and self._concerns(restart):
            self._reset(restart)
            reward = reward.masked_fill(restart, 0.0)
            terminated, truncated = terminated & ~restart, truncated & ~restart
            info["reward_terms"] = {name: term.masked_fill(restart, 0.0) for name, term in info["reward_terms"].items()}
            info |= {flag: info[flag] & ~restart for flag in ("failed", "success") if flag in info}
        done = terminated | truncated
        self._done.copy_(done)
        obs = self._observe()
        if self.autoreset_mode == AutoresetMode.SAME_STEP:
            info["final_obs"], info["_final_obs"] = obs, done
            if self._concerns(done):
                self._reset(done)
                obs = self._observe()  # worlds that go on observe the same again
        return obs, reward, terminated, truncated, info

    def check(self) -> None:
        """Report what captured steps could only note; every 64th of them does it by itself.

        Raises:
            BackendError: An action was not finite, or a buffer of the engine overflowed.
        """
        self.backend.check()
        self._incidents.report(self)

    def roots(self) -> dict[str, Any]:
        """What has a memory beside the engine, for `Memory`."""
        counters = {"episode": self.episode, "steps": self.steps, "done": self._done}
        perturbations = {f"{index} {each.name}": each for index, each in enumerate(self.perturbations)}
        return {"counters": counters, "sensors": dict(self.sim.sensors), "perturbations": perturbations}

    def _concerns(self, mask: Tensor) -> bool:
        """Whether `mask` holds for any world; a captured step cannot ask, and acts as if."""
        return self.captured or bool(mask.any())

    def _usable(self, action: Tensor, restart: Tensor | None) -> Tensor:
        """`action` with zero in the worlds that ignore theirs; one that is not finite elsewhere is an error."""
        ignored = self.backend.failed if restart is None else self.backend.failed | restart
        if self.captured:
            finite = torch.isfinite(action).all(dim=1) | ignored
            self._incidents.bad_action |= ~finite
            return torch.where((ignored | ~finite)[:, None], 0.0, action)
        if self._failing or restart is not None:
            action = action.masked_fill(ignored[:, None], 0.0)
        # A sum is cheaper than a look at every element, and finite only if they all are.
        if not math.isfinite(float(action.sum())) and not torch.isfinite(action).all():
            raise nan_guard.bad_action(torch.nonzero(~torch.isfinite(action).all(dim=1)).flatten().tolist())
        return action

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
        self._note_failures(failed_before, ctrl)
        self.steps += 1
        for sensor in self.sim.sensors.values():
            sensor.update(self.sim)

    def _note_failures(self, before: Tensor, ctrl: Tensor) -> None:
        """Write down worlds that diverged in this step; from a captured step, only keep what `check` needs for it."""
        failed = self.backend.failed
        if self.captured:
            self._incidents.note(failed & ~before, self.backend.get_state(), ctrl, self.episode, self.steps)
            return
        self.backend.check()
        if not torch.equal(failed, before):
            worlds = torch.nonzero(failed & ~before).flatten().tolist()
            nan_guard.report(self, worlds, self.backend.get_state(), ctrl, self.episode, self.steps)
            self._failing = True

    def _judge(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor, dict[str, Any]]:
        terms = self.task.reward(self.sim, action)
        for name, term in terms.items():
            self._check(f"reward term {name!r}", term, (self.num_envs,))
        terminated = self.task.terminated(self.sim)
        self._check("terminated", terminated, (self.num_envs,))
        success = self.task.success(self.sim)
        failed = self.backend.failed.clone()
        if self._failing:
            terms = {name: _finite_where(failed, term) for name, term in terms.items()}
            terminated = terminated | failed
            success = None if success is None else success & ~failed
        info: dict[str, Any] = {"reward_terms": terms, "failed": failed}
        if success is not None:
            self._check("success", success, (self.num_envs,))
            info["success"] = success
        reward = self.task.total(terms).to(self.task.dtype)
        return reward, terminated, self.steps >= self.task.max_steps, info

    def _reset(self, mask: Tensor) -> None:
        """Begin new episodes in the worlds of `mask`; the others keep everything."""
        self.episode += mask
        self.steps.masked_fill_(mask, 0)
        self._done &= ~mask
        # A captured step does not know how many worlds there are to draw for, and draws for all.
        chosen = self.random if self.captured else self.random.of(mask)
        states = []
        for name, rows in zip(("qpos", "qvel"), self.task.initial_state(chosen), strict=True):
            now = self.sim[name]
            self._check(f"initial {name}", rows, (len(chosen.worlds), now.shape[1]))
            states.append(rows if self.captured else _spread(rows.to(now), mask))
        self.backend.reset(mask, *states)
        parameters = self.task.initial_parameters(chosen)
        if parameters:
            spread = {name: rows if self.captured else _spread(rows, mask) for name, rows in parameters.items()}
            self.backend.set_params(spread, mask)
        self._failing = self._concerns(self.backend.failed)
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
        if self._failing:
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

    def state_dict(self) -> dict[str, Tensor]:
        """Everything the next step depends on, as copies on the environment's device.

        On the CPU a batch that goes on from it repeats this one bit by bit. A memory that sensors or perturbations
        keep in anything but tensors is not in it.
        """
        return save_batch(self)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on where `state_dict` was taken, from a batch of the same task, size and perturbations.

        Raises:
            BackendError: The state is another batch's.
        """
        load_batch(self, state)


def _spread(rows: Tensor, mask: Tensor) -> Tensor:
    """`rows` ``(K, ...)`` at the K worlds of `mask` ``(N,)``, zero elsewhere, ``(N, ...)``."""
    full = rows.new_zeros(len(mask), *rows.shape[1:])
    full[mask] = rows
    return full


def _finite_where(failed: Tensor, value: Tensor) -> Tensor:
    """`value` with zero for what is not finite in the failed worlds: NaN ends there, it does not reach a learner."""
    rows = failed.reshape(-1, *(1,) * (value.ndim - 1))
    return torch.where(rows, value.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), value)


def _box(signals: tuple[Signal, ...], dtype: torch.dtype) -> gymnasium.spaces.Box:
    numpy_dtype = np.float64 if dtype == torch.float64 else np.float32
    low = np.array([value for signal in signals for value in signal.low], dtype=numpy_dtype)
    high = np.array([value for signal in signals for value in signal.high], dtype=numpy_dtype)
    return gymnasium.spaces.Box(low, high, dtype=numpy_dtype)
