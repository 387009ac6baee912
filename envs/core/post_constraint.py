"""Forces of the constraints on the bodies (``cfrc_ext``, ``cacc``, ``cfrc_int``) after every physics step.

MuJoCo computes them only in ``mj_rnePostConstraint``, which ``mj_step`` calls only when a sensor needs it, and then,
under the RK4 integrator, for the first of its four stages. Who calls the function after the step, as Gymnasium does,
sees the last stage. A native batch leaves no place to call it, but for an engine plugin: MuJoCo calls a plugin's
``advance(model, data, instance)`` at the end of every step, whatever the integrator. So this plugin's ``advance`` *is*
``mj_rnePostConstraint``, registered by its address: nothing to compile, no Python in the loop, the physics untouched.
"""

from __future__ import annotations

import functools

import mujoco

from fermo.envs.core.backend import BackendError
from fermo.envs.core.engine_plugin import activate_plugin, address, mujoco_library, register_plugin

PLUGIN = "fermo.post_constraint"


@functools.cache
def register() -> None:
    """Make the plugin known to MuJoCo in this process; models that carry it load only afterwards.

    Raises:
        BackendError: MuJoCo's library cannot be opened on this platform.
    """
    try:
        advance = address(mujoco_library().mj_rnePostConstraint)
    except (OSError, AttributeError) as error:
        raise BackendError(f"contact forces on bodies need MuJoCo's library on Linux or macOS ({error})") from error
    register_plugin(PLUGIN, advance=advance)


def add_post_constraint(spec: mujoco.MjSpec) -> None:
    """Have models compiled from `spec` keep ``cfrc_ext (nbody, 6)`` [N m, N] up to date after every step."""
    register()
    activate_plugin(spec, PLUGIN)
