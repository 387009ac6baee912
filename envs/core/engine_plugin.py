"""Native code inside MuJoCo's own step: callbacks given by their address, called for every world without any Python.

A native batch leaves no place between physics steps to call anything from Python. An engine plugin is that place:
MuJoCo calls its ``compute(model, data, instance, capability)`` in the stage it asked for, and its
``advance(model, data, instance)`` at the end of every step.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Sequence
from pathlib import Path

import mujoco

from fermo.envs.core.backend import BackendError

_CALLBACKS = (
    "nstate", "nsensordata", "init", "destroy", "copy", "reset", "compute", "advance", "visualize", "actuator_act_dot",
    "sdf_distance", "sdf_gradient", "sdf_staticdistance", "sdf_attribute", "sdf_aabb",
)  # fmt: skip

# Who registers which: a saved model knows its plugins only by their order of registration in the process that saved it.
_MAKERS = {
    "fermo.post_constraint": "fermo.envs.core.post_constraint",
    "fermo.operational_space": "fermo.envs.tasks.robosuite.arm_plugin",
}
_slots: dict[str, int] = {}


class _Plugin(ctypes.Structure):
    """``mjpPlugin`` of ``mjplugin.h``."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("nattribute", ctypes.c_int),
        ("attributes", ctypes.c_void_p),
        ("capabilityflags", ctypes.c_int),
        ("needstage", ctypes.c_int),
        *((name, ctypes.c_void_p) for name in _CALLBACKS),
    )


def register_plugin(
    name: str, *, compute: int | None = None, advance: int | None = None, capabilities: int = 0
) -> None:
    """Make a plugin without a state of its own known to MuJoCo; models that carry it load only afterwards.

    Args:
        name: Unique in the process.
        compute: Address of ``void (const mjModel*, mjData*, int instance, int capability)``; none when None.
        advance: Address of ``void (const mjModel*, mjData*, int instance)``.
        capabilities: Bits of ``mjtPluginCapabilityBit``: in which stages `compute` is called.

    Raises:
        BackendError: MuJoCo's library cannot be opened on this platform.
    """
    try:
        library = mujoco_library()
        # Stateless callbacks must return 0 without entering Python: sched_yield takes no argument and returns 0.
        nothing = address(ctypes.CDLL(None).sched_yield)
    except (OSError, AttributeError, TypeError) as error:
        raise BackendError(f"code inside a physics step needs MuJoCo's library on Linux or macOS ({error})") from error
    plugin = _Plugin(name=name.encode(), capabilityflags=capabilities, nstate=nothing, init=nothing, reset=nothing,
                     compute=compute or nothing, advance=advance)  # fmt: skip
    _slots[name] = library.mjp_registerPlugin(ctypes.byref(plugin))  # copies the struct and its strings


def activate_plugin(spec: mujoco.MjSpec, name: str) -> None:
    """Have models compiled from `spec` run the registered plugin called `name`."""
    spec.activate_plugin(name)
    spec.add_plugin(name=name.rsplit(".", maxsplit=1)[-1], plugin_name=name, active=True)


def plugin_names(model: mujoco.MjModel) -> list[str]:
    """The plugins of ours that a model runs, in its order."""
    names = {slot: name for name, slot in _slots.items()}
    return [names[slot] for slot in model.plugin if slot in names]


def restore_plugins(model: mujoco.MjModel, names: Sequence[str]) -> None:
    """Give a model that was loaded from a binary file the plugins called `names`, as this process has them.

    Raises:
        BackendError: It has other plugins, or one of these cannot be had here.
    """
    if len(names) != model.nplugin or not set(names) <= _MAKERS.keys():
        raise BackendError(f"the model has {model.nplugin} engine plugins, its file names {list(names)}")
    for index, name in enumerate(names):
        try:
            importlib.import_module(_MAKERS[name]).register()
        except ImportError as error:
            raise BackendError(
                f"the model's plugin {name} needs {error.name}: pip install 'fermo[robosuite]'"
            ) from error
        model.plugin[index] = _slots[name]


def mujoco_library() -> ctypes.CDLL:
    """The library that the bindings themselves use.

    Raises:
        OSError: It is not where the bindings keep it.
    """
    found = sorted(Path(mujoco.__file__).parent.glob("libmujoco*"))
    if not found:
        raise OSError("the mujoco package holds no libmujoco")
    return ctypes.CDLL(str(found[0]))


def address(function: ctypes._CFuncPtr) -> int | None:  # type: ignore[name-defined]
    """Where a native function lies in memory."""
    return ctypes.cast(function, ctypes.c_void_p).value
