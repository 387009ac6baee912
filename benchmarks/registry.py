"""Every contender: where its code is, what it needs, and how to get that."""

from __future__ import annotations

from dataclasses import dataclass

from fermo.envs.registry import TASKS


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A contender that may or may not be installed.

    Attributes:
        label: For people.
        target: ``"module:Class"`` of its `Contender`.
        backend: The engine it is compared on, ``"cpu"`` or ``"warp"``.
        requires: Packages it imports.
        install: What makes them appear.
        family: The tasks it knows: ``"gymnasium"``, ``"robosuite"``, or all of fermo's when empty.
    """

    label: str
    target: str
    backend: str
    requires: tuple[str, ...]
    install: str
    family: str = ""


_HERE = "fermo.benchmarks.contenders"
OURS = {"cpu": "fermo", "warp": "fermo-warp"}
CEILING = {"cpu": "raw", "warp": "raw-warp"}
_OWN_VENV = "in a venv of its own, then --peer-python VENV/bin/python"
_GYMNASIUM, _ROBOSUITE = "gymnasium", "robosuite"

CONTENDERS: dict[str, Entry] = {
    "fermo": Entry(label="fermo", target=f"{_HERE}.ours:FermoEnv", backend="cpu",
                   requires=("torch", "mujoco"), install="pip install fermo"),
    "raw": Entry(label="mujoco.batch alone", target=f"{_HERE}.ours:RawBatch", backend="cpu",
                 requires=("torch", "mujoco"), install="pip install fermo"),
    "envpool": Entry(label="EnvPool", target=f"{_HERE}.envpool_vector:EnvPool", backend="cpu",
                     requires=("envpool",), install='pip install "fermo[bench]"', family=_GYMNASIUM),
    "gymnasium-sync": Entry(label="Gymnasium SyncVectorEnv", target=f"{_HERE}.gymnasium_vector:GymnasiumSync",
                            backend="cpu", requires=("gymnasium",), install="pip install fermo", family=_GYMNASIUM),
    "gymnasium-async": Entry(label="Gymnasium AsyncVectorEnv", target=f"{_HERE}.gymnasium_vector:GymnasiumAsync",
                             backend="cpu", requires=("gymnasium",), install="pip install fermo", family=_GYMNASIUM),
    "sb3-dummy": Entry(label="SB3 DummyVecEnv", target=f"{_HERE}.sb3:Sb3Dummy", backend="cpu",
                       requires=("stable_baselines3",), install='pip install "fermo[sb3]"', family=_GYMNASIUM),
    "sb3-subproc": Entry(label="SB3 SubprocVecEnv", target=f"{_HERE}.sb3:Sb3Subproc", backend="cpu",
                         requires=("stable_baselines3",), install='pip install "fermo[sb3]"', family=_GYMNASIUM),
    "robosuite": Entry(label="robosuite", target=f"{_HERE}.robosuite_env:RobosuiteEnv", backend="cpu",
                       requires=("robosuite",), install='pip install "fermo[robosuite]"', family=_ROBOSUITE),
    "robosuite-raw": Entry(label="mujoco.batch on robosuite's model", target=f"{_HERE}.robosuite_env:RobosuiteRaw",
                           backend="cpu", requires=("robosuite",), install='pip install "fermo[robosuite]"',
                           family=_ROBOSUITE),
    "fermo-warp": Entry(label="fermo on MuJoCo Warp", target=f"{_HERE}.ours:FermoEnv", backend="warp",
                        requires=("mujoco_warp",), install='pip install "fermo[cuda]"'),
    "raw-warp": Entry(label="mujoco_warp alone", target=f"{_HERE}.mujoco_warp:RawWarp", backend="warp",
                      requires=("mujoco_warp",), install='pip install "fermo[cuda]"'),
    "mjlab": Entry(label="mjlab", target=f"{_HERE}.mjlab_env:Mjlab", backend="warp",
                   requires=("mjlab",), install=f"pip install mjlab {_OWN_VENV}", family=_GYMNASIUM),
    "mjx-warp": Entry(label="MJX-Warp, physics alone", target=f"{_HERE}.mjx_warp:MjxWarp", backend="warp",
                      requires=("jax", "mujoco.mjx", "warp"), install=f"pip install mujoco-mjx[warp] {_OWN_VENV}",
                      family=_GYMNASIUM),
}  # fmt: skip


def who_knows(task: str, backend: str) -> tuple[str, ...]:
    """The contenders of a back end that have `task`."""
    family = TASKS[task].removeprefix("fermo.envs.tasks.").partition(".")[0]
    return tuple(
        name for name, entry in CONTENDERS.items() if entry.backend == backend and entry.family in ("", family)
    )
