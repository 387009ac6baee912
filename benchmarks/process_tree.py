"""Processor time and memory of a process with everything it started, from Linux' ``/proc``."""

from __future__ import annotations

import os
from pathlib import Path

_PROC = Path("/proc")


def members(root: int | None = None) -> list[int]:
    """Ids of the process (this one when None) and all its living descendants."""
    found, pending = [], [os.getpid() if root is None else root]
    while pending:
        process = pending.pop()
        found.append(process)
        for thread in _entries(_PROC / str(process) / "task"):
            pending += map(int, _read(thread / "children").split())
    return found


def cpu_seconds(root: int | None = None) -> float:
    """User and system time of every living thread of the tree [s], to the nanosecond the scheduler counts in."""
    nanoseconds = 0
    for process in members(root):
        for thread in _entries(_PROC / str(process) / "task"):
            nanoseconds += int((_read(thread / "schedstat").split() or ["0"])[0])
    return nanoseconds / 1e9


def data_bytes(root: int | None = None) -> int:
    """Resident memory of the tree that holds data [B], mapped files such as libraries left out.

    What processes of the tree share is divided among them. Files are left out because they are shared with strangers
    too, so that their part would change as those come and go.
    """
    kinds = ("Pss_Anon:", "Pss_Shmem:")
    return sum(_kilobytes(process, "smaps_rollup", kind) for process in members(root) for kind in kinds) * 1024


def peak_resident_bytes(root: int | None = None) -> int:
    """Sum of the largest resident sizes that the processes of the tree ever had [B]; shared pages count for each."""
    return sum(_kilobytes(process, "status", "VmHWM:") for process in members(root)) * 1024


def _kilobytes(process: int, file: str, key: str) -> int:
    for line in _read(_PROC / str(process) / file).splitlines():
        if line.startswith(key):
            return int(line.split()[1])
    return 0


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:  # the process has ended meanwhile
        return []


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
