"""Where a number came from: versions, commit, machine and command."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKAGES = ("fermo", "mujoco", "mujoco-warp", "warp-lang", "torch", "numpy", "scipy", "gymnasium", "deel-torchlip",
            "cvxpy", "pyarrow", "stable-baselines3", "rsl-rl-lib", "ftservo-python-sdk")  # fmt: skip


def provenance() -> dict[str, Any]:
    """Everything below, with the time (UTC) and the command that is running."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "versions": versions(),
        "git": git_commit(),
        "machine": machine(),
    }


def versions() -> dict[str, str]:
    """Version of Python and of each installed package that can change a result."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit() -> dict[str, Any] | None:
    """Commit of the fermo sources and whether they were edited since; None when they are not a git checkout."""
    source = Path(__file__).resolve()
    if _git(source.parent, "ls-files", "--error-unmatch", source.name) is None:
        return None
    commit = _git(source.parent, "rev-parse", "HEAD")
    edits = _git(source.parent, "status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "edited": bool(edits)}


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, memory [GiB], operating system and CUDA devices."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "gpus": _gpus(),
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _gpus() -> list[str]:
    import torch

    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
