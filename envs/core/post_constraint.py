"""Forces of the constraints on the bodies (``cfrc_ext``, ``cacc``, ``cfrc_int``) after every physics step.

MuJoCo computes them only in ``mj_rnePostConstraint``, which ``mj_step`` calls only when a sensor needs it, and then,
under the RK4 integrator, for the first of its four stages. Who calls the function after the step, as Gymnasium does,
sees the last stage. A native batch leaves no place to call it, but for an engine plugin: MuJoCo calls a plugin's
``advance(model, data, instance)`` at the end of every step, whatever the integrator. So this plugin's ``advance`` *is*
``mj_rnePostConstraint``, registered by its address: nothing to compile, no Python in the loop, the physics untouched.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import mujoco

from fermo.envs.core.backend import BackendError

PLUGIN = "fermo.post_constraint"

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


@functools.cache
def register() -> None:
    """Make the plugin known to MuJoCo in this process; models that carry it load only afterwards.

    Raises:
        BackendError: MuJoCo's library cannot be opened on this platform.
    """
    try:
        library = ctypes.CDLL(str(next(Path(mujoco.__file__).parent.glob("libmujoco*"))))
        # Stateless callbacks must return 0 without entering Python: sched_yield takes no argument and returns 0.
        nothing = _address(ctypes.CDLL(None).sched_yield)
    except (StopIteration, OSError, AttributeError, TypeError) as error:
        raise BackendError(f"contact forces on bodies need MuJoCo's library on Linux or macOS ({error})") from error
    plugin = _Plugin(name=PLUGIN.encode(), nstate=nothing, init=nothing, reset=nothing, compute=nothing,
                     advance=_address(library.mj_rnePostConstraint))  # fmt: skip
    library.mjp_registerPlugin(ctypes.byref(plugin))  # copies the struct and its strings


def add_post_constraint(spec: mujoco.MjSpec) -> None:
    """Have models compiled from `spec` keep ``cfrc_ext (nbody, 6)`` [N m, N] up to date after every step."""
    register()
    spec.activate_plugin(PLUGIN)
    spec.add_plugin(name="post_constraint", plugin_name=PLUGIN, active=True)


def _address(function: ctypes._CFuncPtr) -> int | None:  # type: ignore[name-defined]
    return ctypes.cast(function, ctypes.c_void_p).value
