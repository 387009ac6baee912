"""Times of short calls that take turns, so that what slows the machine for a while slows them all."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Turn = Callable[[], object]


def take_turns(turns: Mapping[str, Turn], *, rounds: int, seconds: float) -> dict[str, tuple[float, ...]]:
    """Mean time of one call [s] by name, one a round; the k-th of all names were measured side by side.

    Args:
        turns: What to call.
        rounds: Turns of each.
        seconds: Least length of a turn.
    """
    for turn in turns.values():
        turn()  # fills caches
    times: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, turn in turns.items():
            times[name].append(_seconds(turn, seconds))
    return {name: tuple(measured) for name, measured in times.items()}


def _seconds(turn: Turn, least: float) -> float:
    """Mean time of one call, over at least that long [s]."""
    calls, start = 0, time.perf_counter()
    while time.perf_counter() - start < least:
        turn()
        calls += 1
    return (time.perf_counter() - start) / calls
