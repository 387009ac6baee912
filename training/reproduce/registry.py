"""What a reproduction is, and which ones there are."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from fermo.errors import FermoError, unknown_name
from fermo.training.statistics import wilson

_CELL_NAME = re.compile(r"[a-z0-9][a-z0-9_.=-]*(/[a-z0-9][a-z0-9_.=-]*)*")


class Budget(StrEnum):
    """How much to spend: seconds in CI, about an hour a cell on two cores, or what was published."""

    SMOKE = "smoke"
    SMALL = "small"
    PAPER = "paper"


@dataclass(frozen=True, kw_only=True)
class Number:
    """One result.

    Attributes:
        value: The estimate, in `unit`.
        low: Lower limit of its 95 % interval, None where there is none.
        high: Upper limit.
        unit: SI unit, ``"1"`` for a pure number.
        trials: How many independent outcomes it stands on, None where that has no meaning.
    """

    value: float
    low: float | None = None
    high: float | None = None
    unit: str = "1"
    trials: int | None = None

    @classmethod
    def rate(cls, successes: int, trials: int) -> Number:
        """A success rate with its Wilson interval."""
        interval = wilson(successes, trials)
        return cls(value=float(interval.value), low=float(interval.low), high=float(interval.high), trials=int(trials))


Results = Mapping[str, Mapping[str, Number]]
"""Numbers by name, by cell."""


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What a cell works with.

    Attributes:
        folder: The cell's own files; still there when an interrupted cell starts again.
        seed: The cell's seed.
        steps: The cell's steps.
        results: Numbers of the cells before it, so that a last cell can summarise seeds.
    """

    folder: Path
    seed: int
    steps: int
    results: Results


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One unit of work, done whole or again.

    Attributes:
        name: Unique in its reproduction, a relative path such as ``"lipschitz_bc/seed=0"``.
        seed: Everything random in it follows from this.
        steps: Training or simulation steps, as the reproduction counts them.
        work: Does it and returns its numbers by name.
    """

    name: str
    seed: int
    steps: int
    work: Callable[[Workspace], Mapping[str, Number]]

    def __post_init__(self) -> None:
        if not _CELL_NAME.fullmatch(self.name):
            raise ValueError(f"cell name {self.name!r} must be words of [a-z0-9_.=-] joined by '/'")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the documentation's table.

    Attributes:
        cell: Which cell's number.
        number: Its name there.
        label: For people.
        published: The paper's own number as printed there, empty when it gives none.
        source: Where in which paper.
    """

    cell: str
    number: str
    label: str
    published: str = ""
    source: str = ""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """A published or claimed result and how to make it again.

    Attributes:
        name: As in ``fermo reproduce NAME``.
        title: What is reproduced, in a line.
        cells: The work a budget asks for, in order.
        rows: What the documentation shows of it.
        check: Raises `FermoError` when the results of all cells do not show what they must: that the loss fell, that
            the trained policy beats a random one.
    """

    name: str
    title: str
    cells: Callable[[Budget], Sequence[Cell]]
    rows: tuple[Row, ...]
    check: Callable[[Results], None]


REPRODUCTIONS: dict[str, Reproduction] = {}


def register(reproduction: Reproduction) -> Reproduction:
    """Add a reproduction under its name. Raises `FermoError` when the name is taken."""
    if reproduction.name in REPRODUCTIONS:
        raise FermoError(f"a reproduction named {reproduction.name!r} is registered already")
    REPRODUCTIONS[reproduction.name] = reproduction
    return reproduction


def find(name: str) -> Reproduction:
    """The reproduction of that name. Raises `FermoError` with the nearest one when there is none."""
    if name not in REPRODUCTIONS:
        raise unknown_name("reproduction", name, REPRODUCTIONS)
    return REPRODUCTIONS[name]
