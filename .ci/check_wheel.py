"""Run inside a clean environment that holds only the wheel: every module imports as fermo.*, and by no other name."""

import importlib
import pkgutil

import fermo
from fermo.errors import FermoError

ROOMS = ("assets", "benchmarks", "controllers", "envs", "hardware", "policies", "training")
EXTRAS = ("envpool", "jax", "mjlab", "mujoco_warp", "warp", "numba", "onnx", "onnxscript", "onnxruntime", "ray",
          "robosuite", "rsl_rl", "stable_baselines3", "viser")  # fmt: skip


def modules() -> list[str]:
    """Every module of the package, the runnable ones aside."""
    found = [module.name for module in pkgutil.walk_packages(fermo.__path__, "fermo.")]
    return [name for name in found if not name.endswith("__main__")]


def main() -> None:
    """Import them all; end with an error where one is missing or lies at the top level."""
    for room in ROOMS:
        importlib.import_module(f"fermo.{room}")
        try:
            importlib.import_module(room)
        except ImportError:
            continue
        raise SystemExit(f"the wheel also installs {room!r} at the top level")
    absent = {}
    for name in modules():
        try:
            importlib.import_module(name)
        except (ImportError, FermoError) as error:  # a room may say which extra it wants
            missing = getattr(error if isinstance(error, ImportError) else error.__cause__, "name", None) or ""
            if missing.partition(".")[0] not in EXTRAS:
                raise
            absent[name] = missing
    print(f"{len(modules()) - len(absent)} modules import; {len(absent)} wait for an extra: {absent or 'none'}")


if __name__ == "__main__":
    main()
