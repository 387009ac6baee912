"""What became of the chunks of a deployment: delays, holds and seams."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fermo.hardware.seams import HOLD, Seams, seams
from fermo.hardware.spread import spread


@dataclass(kw_only=True)
class ChunkReport:
    """Every chunk and every command of a deployment.

    Attributes:
        mode: How one chunk gives way to the next.
        horizon: Actions in a chunk.
        execute: Of these, carried out before the next chunk is asked for.
        rate_hz: Of the actions [Hz].
        chunks: That were taken up.
        delays: Actions carried out while each chunk was computed; an episode's first chunk, for which the robot still
            waits, is not among them.
        late: Chunks that came after the actions that had been decided for them were carried out.
        dropped: Chunks that came after all of their actions were past.
        commands: As carried out, after every limit, one list an episode of ``(command_size,)``.
        origins: The chunk that each was decided in, or `HOLD`.
    """

    mode: str
    horizon: int
    execute: int
    rate_hz: float
    chunks: int = 0
    delays: list[int] = field(default_factory=list)
    late: int = 0
    dropped: int = 0
    commands: list[list[np.ndarray]] = field(default_factory=list)
    origins: list[list[int]] = field(default_factory=list)

    @property
    def holds(self) -> int:
        """Periods in which the last action was repeated because the next chunk was not there."""
        return sum(origins.count(HOLD) for origins in self.origins)

    def begin_episode(self) -> None:
        """What comes now is not the continuation of what was."""
        self.commands.append([])
        self.origins.append([])

    def note(self, command: np.ndarray, origin: int) -> None:
        """One command that was carried out, and where it came from."""
        self.commands[-1].append(command)
        self.origins[-1].append(origin)

    def seams(self) -> list[Seams]:
        """Of each episode; periods that the loop missed are left out of the time between commands."""
        return [seams(np.array(commands), np.array(origins), 1.0 / self.rate_hz)
                for commands, origins in zip(self.commands, self.origins, strict=True) if commands]  # fmt: skip

    def summary(self) -> dict[str, Any]:
        """Counts, delays [actions], jerk [rad/s^3] and steps [rad] at seams and inside chunks; JSON-able."""
        found = self.seams()
        joined = {name: np.concatenate([getattr(each, name) for each in found] or [np.zeros(0)])
                  for name in ("jerk", "inner_jerk", "step", "inner_step")}  # fmt: skip
        return {
            "mode": self.mode,
            "horizon": self.horizon,
            "execute": self.execute,
            "chunks": self.chunks,
            "delay_actions": spread(np.array(self.delays)),
            "holds": self.holds,
            "late": self.late,
            "dropped": self.dropped,
            "seam_jerk": spread(joined["jerk"]),
            "inner_jerk": spread(joined["inner_jerk"]),
            "largest_seam_step": float(joined["step"].max(initial=0.0)),
            "largest_inner_step": float(joined["inner_step"].max(initial=0.0)),
        }
