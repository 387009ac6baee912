"""What a policy that looks back or ahead learns from: a stretch of one episode around each of its frames."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FutureGoal:
    """Successive observations from later in the same episode, drawn anew each time.

    Attributes:
        frames: How many.
        ends: Share of samples whose goal is the episode's last frames.
        truncated: Draw as BESO's released code does: never the last frame, and rows of zeros where none is left.
    """

    frames: int = 1
    ends: float = 0.0
    truncated: bool = False


@dataclass(frozen=True, kw_only=True)
class ColumnGoal:
    """What a further column of the dataset says at the frame.

    Attributes:
        name: The column.
        size: Elements of the goal.
        one_hot: The column counts from 0 to ``size - 1``, and the goal is that number's row of the identity.
    """

    name: str
    size: int
    one_hot: bool = False


@dataclass(frozen=True, kw_only=True)
class Window:
    """T observations, the frame's last, and ``T + H - 1`` actions, of which number T - 1 is the frame's.

    A batch of B windows holds ``"observation"`` ``(B, T, .)``, ``"action"`` ``(B, T + H - 1, .)`` and, where they are
    not all true, ``"observed"`` ``(B, T)`` and ``"acted"`` ``(B, T + H - 1)``; ``"goal"`` ``(B, G, .)`` with goals,
    ``"weight"`` ``(B,)`` if any. An observation without time, ``(B, .)``, is an episode's first.

    Attributes:
        past: T, the frame's observation included.
        ahead: H, the frame's action included.
        goal: Where goals come from; None without goals.
    """

    past: int
    ahead: int = 1
    goal: FutureGoal | ColumnGoal | None = None
