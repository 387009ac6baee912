"""Scenes shared by tasks and twins: editable models as functions, and small plants as MJCF files of our own."""

from __future__ import annotations

from pathlib import Path


def scene_path(name: str) -> str:
    """Path of the MJCF file called `name` in this folder, for example ``"cart_pole"``."""
    return str(Path(__file__).with_name(f"{name}.xml"))
