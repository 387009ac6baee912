"""Native code inside MuJoCo's own step: callbacks given by their address, called for every world without any Python.

A native batch leaves no place between physics steps to call anything from Python. An engine plugin is that place:
MuJoCo calls its ``compute(model, data, instance, capability)`` in the stage it asked for, and its
``advance(model, data, instance)`` at the end of every step.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import mujoco

from fermo.envs.core.backend import BackendError

_CALLBACKS = (
    "nstate", "nsensordata", "init", "destroy", "copy", "reset", "compute", "advance", "visualize", "actuator_act_dot",
    "sdf_distance", "sdf_gradient", "sdf_staticdistance", "sdf_attribute", "sdf_aabb",
)  # fmt: skip


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
    library.mjp_registerPlugin(ctypes.byref(plugin))  # copies the struct and its strings


def activate_plugin(spec: mujoco.MjSpec, name: str) -> None:
    """Have models compiled from `spec` run the registered plugin called `name`."""
    spec.activate_plugin(name)
    spec.add_plugin(name=name.rsplit(".", maxsplit=1)[-1], plugin_name=name, active=True)


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
