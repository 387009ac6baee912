"""How one chunk of actions gives way to the next while the robot moves; importing it does not load torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from fermo.errors import FermoError, unknown_name


@dataclass(frozen=True, kw_only=True)
class Chunking(ABC):
    """The rules that modes differ in.

    Action i of a chunk is meant for the i-th period counted from the observation that the chunk was computed for.

    Attributes:
        execute: Actions of a chunk that are carried out before the next one is asked for; half of them when None.
    """

    name: ClassVar[str]
    goes_on: ClassVar[bool] = True
    """Whether the rest of a chunk is carried out while the next one is computed."""

    needs_prefix: ClassVar[bool] = False
    """Whether the policy must take decided actions."""

    execute: int | None = None

    def __post_init__(self) -> None:
        if self.execute is not None and self.execute < 1:
            raise FermoError(f"at least 1 action of a chunk is carried out, got execute {self.execute}")

    def executed(self, horizon: int) -> int:
        """`execute`, for chunks of `horizon` actions.

        Raises:
            FermoError: Nothing of the chunk would be left for the time in which the next one is computed.
        """
        execute = max(1, horizon // 2) if self.execute is None else self.execute
        most = horizon - 1 if self.goes_on else horizon
        if execute > most:
            raise FermoError(f"{self.name} chunking carries out at most {most} actions of this policy's chunks of "
                             f"{horizon} before it asks for the next, got {execute}")  # fmt: skip
        return execute

    def decided(self, delays: Sequence[int], left: int, horizon: int) -> int:
        """How many of the actions to come a chunk that is asked for now is told to begin with.

        Args:
            delays: Actions carried out while each earlier chunk was computed.
            left: Actions of the present chunk that are left.
            horizon: Of a chunk.
        """
        return 0

    @abstractmethod
    def entry(self, consumed: int) -> int:
        """Which action a chunk is taken up at, when so many were carried out while it was computed."""


@dataclass(frozen=True, kw_only=True)
class RealTimeChunking(Chunking):
    """The next chunk begins with what will be carried out while it is computed (Black, Galliker and Levine 2025).

    How many actions that will be is the most of the last `recall` delays, as the paper has it; before the first delay
    is known, all that are left. The paper guides a flow towards these actions; here they are given as they are to a
    policy that learned to go on from clean ones.

    Attributes:
        recall: Delays that are looked back on.
    """

    name: ClassVar[str] = "real-time"
    needs_prefix: ClassVar[bool] = True

    recall: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recall < 1:
            raise FermoError(f"real-time chunking looks back on at least 1 delay, got recall {self.recall}")

    def decided(self, delays: Sequence[int], left: int, horizon: int) -> int:
        """The longest recent delay, or all that are left; the chunk has at least one action of its own."""
        return min(max(delays[-self.recall :]) if delays else left, horizon - 1)

    def entry(self, consumed: int) -> int:
        """The action that is meant for now."""
        return consumed


@dataclass(frozen=True, kw_only=True)
class NaiveSwitching(Chunking):
    """A chunk knows nothing of the one before, and replaces it when it arrives, from the action meant for then on."""

    name: ClassVar[str] = "naive"

    def entry(self, consumed: int) -> int:
        """The action that is meant for now."""
        return consumed


@dataclass(frozen=True, kw_only=True)
class Synchronous(Chunking):
    """The robot holds still while a chunk is computed, and then carries it out from its first action on."""

    name: ClassVar[str] = "synchronous"
    goes_on: ClassVar[bool] = False

    def entry(self, consumed: int) -> int:
        """The first."""
        return 0


CHUNKINGS: dict[str, type[Chunking]] = {
    kind.name: kind for kind in (RealTimeChunking, NaiveSwitching, Synchronous)
}  # fmt: skip


def make_chunking(name: str, *, execute: int | None = None) -> Chunking:
    """A mode by name. Raises `FermoError` with the nearest one for an unknown name, and for an impossible `execute`."""
    if name not in CHUNKINGS:
        raise unknown_name("chunking", name, CHUNKINGS)
    return CHUNKINGS[name](execute=execute)
