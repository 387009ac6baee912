"""What a timing of safety filters leaves behind."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FilterRow:
    """One contender.

    Attributes:
        contender: Its name.
        absent: Why it did not run; empty when it did.
        median_us: Of a call's processor time [us].
        p99_us: Its 99th percentile [us].
        max_us: The longest call [us].
        error: Largest distance of an element of its answer from the checked one [rad/s].
    """

    contender: str
    absent: str = ""
    median_us: float = 0.0
    p99_us: float = 0.0
    max_us: float = 0.0
    error: float = 0.0


@dataclass(frozen=True, kw_only=True)
class FilterResults:
    """One run.

    Attributes:
        command: What was typed.
        started: Date and time, UTC.
        machine: Processor and cores.
        versions: Of Python and packages, ``"name version"``.
        load: Load average over a minute, before and after.
        joints: Variables of each program.
        rows: Its rows.
        problems: How many were solved.
        unsafe: Share of them in which the wanted command missed a row.
        filters: One a contender.
    """

    command: str
    started: str
    machine: str
    versions: tuple[str, ...]
    load: tuple[float, ...]
    joints: int
    rows: int
    problems: int
    unsafe: float
    filters: tuple[FilterRow, ...]
