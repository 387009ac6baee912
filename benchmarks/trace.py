"""What worlds of a task live through under the shared actions, so that the bare engine can go through the same."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np


@dataclass(frozen=True, kw_only=True)
class Trace:
    """T control steps in the lives of n worlds; states are laid out as ``mjSTATE_INTEGRATION``: time, qpos, qvel, ...

    Attributes:
        start: State of each world before the first step, ``(n, nstate)``.
        episode_steps: Control steps since the world's episode began, ``(n,)``.
        ctrl: Actuator input at each step, ``(T, n, nu)``.
        restart_step: After which step a world began anew, increasing, ``(k,)``.
        restart_world: Which world, ``(k,)``.
        restart_state: In which state, ``(k, nstate)``.
        end: States after the last step, ``(n, nstate)``.
    """

    start: np.ndarray
    episode_steps: np.ndarray
    ctrl: np.ndarray
    restart_step: np.ndarray
    restart_world: np.ndarray
    restart_state: np.ndarray
    end: np.ndarray

    def over(self, num_worlds: int) -> Trace:
        """The same for `num_worlds` worlds, world i living the life of world ``i mod n``."""
        known = len(self.start)
        source = np.arange(num_worlds) % known
        copies = np.arange(-(-num_worlds // known))
        worlds = self.restart_world[:, None] + known * copies  # (k, copies)
        event, _ = np.nonzero(worlds < num_worlds)  # in the order of the events, so steps go on increasing
        return Trace(
            start=self.start[source], episode_steps=self.episode_steps[source], ctrl=self.ctrl[:, source],
            restart_step=self.restart_step[event], restart_world=worlds[worlds < num_worlds],
            restart_state=self.restart_state[event], end=self.end[source],
        )  # fmt: skip

    def restarts(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """For each step the worlds that begin anew after it ``(k,)`` and their states ``(k, nstate)``."""
        edges = np.searchsorted(self.restart_step, np.arange(len(self.ctrl) + 1))
        slices = [slice(first, last) for first, last in itertools.pairwise(edges)]
        return [(self.restart_world[each], self.restart_state[each]) for each in slices]

    def save(self, path: Path | str) -> None:
        """Write to an ``.npz`` file."""
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path | str) -> Trace:
        """What `save` wrote."""
        with np.load(path) as arrays:
            return cls(**arrays)
