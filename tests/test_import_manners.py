"""Importing is cheap, silent and without side effects."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("torch", "mujoco", "numpy", "pyarrow", "tyro", "gymnasium", "scipy")

WALK = """
import importlib, pkgutil, fermo
def import_everything():
    for module in pkgutil.walk_packages(fermo.__path__, "fermo."):
        if not module.name.endswith("__main__"):
            try:
                importlib.import_module(module.name)
            except ModuleNotFoundError as error:  # of a peer that benchmarks run in its own environment
                assert error.name in ("envpool", "jax", "mjlab"), error
"""
NO_NETWORK = """
import socket
def refuse(*arguments, **options):
    raise AssertionError("an import reached for the network")
socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse
"""
RANDOM = """
import random, numpy, torch, rich.style  # rich, which Stable-Baselines3 loads, numbers its styles from a random start
random.seed(1); numpy.random.seed(1); torch.manual_seed(1)
before = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
import_everything()
assert (random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == before
"""


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "code",
    [
        "import fermo",
        "from fermo.cli import main; main(['--help'])",
        "from fermo.cli import main; main(['--version'])",
    ],
)
def test_the_face_loads_nothing_heavy(code: str) -> None:
    loaded = run(f"import sys; {code}; print(*(name for name in {HEAVY!r} if name in sys.modules))").splitlines()
    assert loaded[-1] == ""


@pytest.mark.parametrize(
    "module",
    [
        "fermo.envs.registry",
        "fermo.policies.registry",
        "fermo.policies.lipschitz_bc.config",
        "fermo.training.loops.bc_config",
        "fermo.training.loops.rl_config",
        "fermo.training.recipes",
        "fermo.hardware.registry",
        "fermo.hardware.chunking",
        "fermo.controllers.arm_filter_config",
        "fermo.assets.catalogue",
        "fermo.training.reproduce.registry",
    ],
)
def test_names_and_settings_load_without_torch_or_mujoco(module: str) -> None:
    assert run(f"import sys, {module}; print('torch' in sys.modules, 'mujoco' in sys.modules)") == "False False\n"


def test_importing_everything_prints_nothing_connects_nowhere_and_draws_no_random_number() -> None:
    assert run(WALK + NO_NETWORK + RANDOM) == ""
