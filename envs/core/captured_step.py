"""A whole environment step, with the policy's own computation if wanted, as one CUDA graph.

Launching some hundred small kernels one by one costs more than running them. A graph is launched as one, and needs a
step in which nothing waits for the GPU and every tensor keeps its address: `VectorEnv.eager_step` is written for the
first, `Memory.settle` sees to the second.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fermo.envs.core import nan_guard
from fermo.envs.core.memory import Memory

if TYPE_CHECKING:
    from fermo.envs.core.vector_env import VectorEnv

StepResult = tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]

CHECK_EVERY = 64
"""Steps between two looks at what went wrong, each of which waits for the GPU."""


class Incidents:
    """What a captured step cannot report at once: actions that are not finite, and worlds that diverged.

    Attributes:
        bad_action: Worlds that were given an action that is not finite, ``(N,)`` bool.
        diverged: Worlds whose physics diverged, ``(N,)`` bool; below, what they were like then.
        state: Last good state, ``(N, nstate)``.
        ctrl: What was applied, ``(N, nu)``.
        episode: Which episode, ``(N,)``.
        step: Which step of it, ``(N,)``.
    """

    def __init__(self, state: Tensor, ctrl_size: int) -> None:
        n, device = len(state), state.device
        self.bad_action = torch.zeros(n, dtype=torch.bool, device=device)
        self.diverged = torch.zeros(n, dtype=torch.bool, device=device)
        self.state = torch.zeros_like(state)
        self.ctrl = torch.zeros(n, ctrl_size, dtype=state.dtype, device=device)
        self.episode = torch.zeros(n, dtype=torch.int64, device=device)
        self.step = torch.zeros(n, dtype=torch.int64, device=device)

    def note(self, new: Tensor, state: Tensor, ctrl: Tensor, episode: Tensor, step: Tensor) -> None:
        """Keep what the worlds of `new` ``(N,)`` bool were like."""
        for kept, now in ((self.state, state), (self.ctrl, ctrl), (self.episode, episode), (self.step, step)):
            rows = new.view(-1, *[1] * (kept.ndim - 1))
            kept.copy_(torch.where(rows, now.to(kept.dtype), kept))
        self.diverged |= new

    def report(self, env: VectorEnv) -> None:
        """Write down what happened and forget it. Waits for the device."""
        worlds = torch.nonzero(self.diverged).flatten().tolist()
        bad = torch.nonzero(self.bad_action).flatten().tolist()
        self.diverged.zero_()
        self.bad_action.zero_()
        if worlds:
            nan_guard.report(env, worlds, self.state, self.ctrl, self.episode, self.step)
        if bad:
            raise nan_guard.bad_action(bad)


class CapturedStep:
    """Steps `env` by replaying a graph; results are copies, so they outlive the next step.

    Args:
        env: A captured environment that has been reset.
        act: Observations ``(N, observation_size)`` to actions, computed inside the graph; the caller's when None.
    """

    def __init__(self, env: VectorEnv, act: Callable[[Tensor], Tensor] | None = None) -> None:
        from fermo.envs.core.warp_graph import capture

        self._env, self._act = env, act
        self._action = torch.zeros(env.num_envs, env.task.spec.command_size, device=env.device)
        self._obs = torch.zeros(env.num_envs, env.task.spec.observation_size, dtype=env.task.dtype, device=env.device)
        self._replay = capture(self._run, env.device, lambda: (env.backend.version, env.seed))  # a graph's constants
        self._memory: Memory | None = None
        self._steps = 0

    def observe(self, obs: Tensor) -> None:
        """The observation that the policy in the graph sees first, ``(N, observation_size)``."""
        self._obs.copy_(obs)

    def __call__(self, action: Tensor | None = None) -> StepResult:
        """One control step with `action` ``(N, command_size)``, or with the policy's own."""
        if action is not None:
            self._action.copy_(action)
        obs, reward, terminated, truncated, info = self._replay()
        self._steps += 1
        if self._steps % CHECK_EVERY == 0:
            self._env.check()
        return obs.clone(), reward.clone(), terminated.clone(), truncated.clone(), _copied(info)

    def _run(self) -> StepResult:
        result = self._env.eager_step(self._act(self._obs) if self._act else self._action)
        if self._act:
            self._obs.copy_(result[0])
        if self._memory is None:  # the first step has made what was made late
            self._memory = Memory(self._env.roots())
        self._memory.settle()
        return result


class ClosedLoop:
    """Environment and policy in one graph: ``loop.reset()``, then ``loop.step()`` as often as wanted.

    Args:
        env: A captured environment.
        act: Observations ``(N, observation_size)`` to actions ``(N, command_size)``, without a look at tensor values.
    """

    def __init__(self, env: VectorEnv, act: Callable[[Tensor], Tensor]) -> None:
        self._env, self._step = env, CapturedStep(env, act)

    def reset(self, *, seed: int | None = None) -> tuple[Tensor, dict[str, Any]]:
        """See `VectorEnv.reset`."""
        obs, info = self._env.reset(seed=seed)
        self._step.observe(obs)
        return obs, info

    def step(self) -> StepResult:
        """See `VectorEnv.step`; the policy chooses."""
        return self._step()


def _copied(info: dict[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, dict) else value.clone() for key, value in info.items()}
