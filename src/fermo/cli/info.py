"""``fermo info``: what a bug report should say about the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from fermo.cli.parsing import parse


@dataclass(frozen=True, kw_only=True)
class InfoOptions:
    """Print versions, processor, GPU, OpenGL and cached assets, for a bug report."""


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    parse(InfoOptions, "info", arguments)
    from fermo.assets.catalogue import CATALOGUE, cache_folder, is_cached
    from fermo.envs.rendering.gl import gl_starts
    from fermo.training.provenance import machine, versions

    rows = {**machine(), **versions(), "python": sys.version.split()[0]}
    rows["OpenGL"] = "starts" if gl_starts() else "does not start; pictures are ray-cast"
    rows["MUJOCO_GL"] = os.environ.get("MUJOCO_GL", "not set")
    rows["assets"] = ", ".join(name for name in CATALOGUE if is_cached(name)) or "none fetched"
    rows["cache"] = cache_folder()
    for name, value in rows.items():
        print(f"{name:<18} {', '.join(map(str, value)) if isinstance(value, list) else value}")
