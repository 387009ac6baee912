"""The bars of the SO-101 path, checked on the numbers of its own reproduction.

``FERMO_REPRODUCTIONS=reproductions pytest -m slow tests/cli/test_so101_bars.py`` goes on from cells that are done.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import fermo.cli.reproductions  # noqa: F401  registers so101-demo
from fermo.training.reproduce.run import reproduce

SEEDS = (0, 1, 2)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, float]]]:
    folder = Path(os.environ.get("FERMO_REPRODUCTIONS", tmp_path_factory.mktemp("reproductions")))
    result = json.loads(reproduce("so101-demo", budget="small", folder=folder, resume=True).read_text())
    return {cell["cell"]: cell["numbers"] for cell in result["cells"]}


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_expert_clones_and_twin_meet_their_bars(numbers: dict[str, dict[str, dict[str, float]]]) -> None:
    assert numbers["sim/all"]["expert"]["value"] >= 0.95
    assert numbers["sim/all"]["lipschitz_bc"]["trials"] >= 3 * 512
    assert numbers["twin/seed=0"]["lipschitz_bc"]["trials"] >= 200
    assert numbers["twin/seed=0"]["lipschitz_bc"]["value"] >= 0.80
    for seed in SEEDS:
        cell = numbers[f"sim/seed={seed}"]
        gamma = cell["chosen gamma"]["value"]
        assert cell["lipschitz_bc"]["value"] >= 0.85
        assert cell[f"difference/gamma={gamma:g}"]["low"] > -0.05
