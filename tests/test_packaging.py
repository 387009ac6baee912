"""One name for every class: the rooms are importable as fermo.*, and only so."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("assets", "benchmarks", "controllers", "envs", "hardware", "policies", "training")


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_refuses_its_short_name(room: str) -> None:
    command = [sys.executable, "-c", f"import {room}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"ImportError: import this package as fermo.{room}, not as {room}" in done.stderr


@pytest.mark.parametrize("room", ROOMS)
def test_a_link_leads_to_the_room(room: str) -> None:
    link = ROOT / "src/fermo" / room
    assert link.is_symlink()
    assert link.readlink() == Path("../..") / room
    assert (link / "__init__.py").is_file()


def test_every_package_of_a_room_has_an_init_file() -> None:
    bare = {file.parent for room in ROOMS for file in (ROOT / room).rglob("*.py") if "__pycache__" not in file.parts}
    assert [str(folder) for folder in sorted(bare) if not (folder / "__init__.py").is_file()] == []


def test_the_build_names_every_room_once() -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    for target in ("wheel", "sdist"):
        assert set(ROOMS) <= set(build[target]["only-include"])
    assert {build["wheel"]["sources"][room] for room in ROOMS} == {f"fermo/{room}" for room in ROOMS}


def test_torch_is_pinned_exactly_and_mujoco_has_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "mujoco>=3.17,<4" in project["dependencies"]
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()


def test_no_module_imports_a_room_by_its_short_name() -> None:
    wrong = []
    for file in (path for room in (*ROOMS, "src/fermo/cli", "tests") for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [f"{file}: {name}" for name in names if name.partition(".")[0] in ROOMS]
    assert wrong == []
