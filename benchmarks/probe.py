"""Says what a Python has: JSON of the modules asked for that it can import, and of package versions."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import sys

PACKAGES = ("mujoco", "mujoco-warp", "mujoco-mjx", "warp-lang", "jax", "torch", "numpy", "gymnasium",
            "stable-baselines3", "envpool", "robosuite", "mjlab")  # fmt: skip


def main() -> None:
    """Module names are the arguments."""
    versions = [f"python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            versions.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    print(json.dumps({"modules": [name for name in sys.argv[1:] if _importable(name)], "versions": versions}))


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a submodule whose package is missing
        return False
