"""How much rougher commands are where one chunk gives way to the next than inside a chunk."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HOLD = -1
"""Origin of a command that only repeats the one before, because no other was there yet."""


@dataclass(frozen=True, kw_only=True)
class Seams:
    """Differences of neighbouring commands, apart by whether all of these come from one chunk.

    Attributes:
        jerk: l2 norms of third differences over dt^3 where they do not, ``(K,)`` [rad/s^3 for angles].
        inner_jerk: Where they do, ``(L,)``.
        step: Largest elements of first differences where they do not, ``(P,)`` [rad for angles].
        inner_step: Where they do, ``(Q,)``.
    """

    jerk: np.ndarray
    inner_jerk: np.ndarray
    step: np.ndarray
    inner_step: np.ndarray


def seams(commands: np.ndarray, origin: np.ndarray, dt: float) -> Seams:
    """Commands of one episode, sorted by where they come from.

    A third difference ``c_{t+3} - 3 c_{t+2} + 3 c_{t+1} - c_t`` belongs to a seam when its four commands are not all of
    one origin. Those of holds alone belong nowhere: nothing moves there.

    Args:
        commands: Shape ``(T, command_size)``.
        origin: Number of the chunk in which each was decided, or `HOLD`, shape ``(T,)``.
        dt: Time between commands [s].
    """
    commands, origin = np.asarray(commands, float), np.asarray(origin)
    jerks = np.linalg.norm(np.diff(commands, n=3, axis=0), axis=1) / dt**3
    steps = np.abs(np.diff(commands, axis=0)).max(axis=1, initial=0.0)
    jerk, inner_jerk = _apart(jerks, origin)
    step, inner_step = _apart(steps, origin)
    return Seams(jerk=jerk, inner_jerk=inner_jerk, step=step, inner_step=inner_step)


def _apart(values: np.ndarray, origin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The values that span several origins, and those of one chunk; each spans ``T - len(values) + 1`` commands."""
    if not len(values):
        return values, values
    windows = np.lib.stride_tricks.sliding_window_view(origin, len(origin) - len(values) + 1)
    mixed = (windows != windows[:, :1]).any(axis=1)
    return values[mixed], values[~mixed & (windows[:, 0] != HOLD)]
