"""MuJoCo's OpenGL renderer, where the machine has an OpenGL that starts."""

from __future__ import annotations

import atexit
import functools
import os
import subprocess
import sys
import weakref
from collections.abc import Iterator

import mujoco
import numpy as np

from fermo.envs.rendering.pinhole import find_camera
from fermo.envs.rendering.raycast import VISUAL_GROUPS
from fermo.envs.rendering.trajectory import check_trajectory

_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
with mujoco.Renderer(model, 8, 8) as renderer:
    renderer.update_scene(mujoco.MjData(model))
    renderer.render()
"""


@functools.cache
def gl_starts() -> bool:
    """Whether MuJoCo's renderer works here with the present ``MUJOCO_GL``.

    Tried once in a process of its own, since a driver that fails may take its process with it. ``MUJOCO_GL=off`` and
    ``disabled`` mean no.
    """
    if os.environ.get("MUJOCO_GL", "").lower() in ("off", "disable", "disabled", "0", "false"):
        return False
    if sys.platform == "linux" and "MUJOCO_GL" not in os.environ and not os.environ.get("DISPLAY"):
        return False  # MuJoCo would open a window by default, and there is no screen to open it on
    try:
        done = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


class GlRenderer:
    """Pictures by `mujoco.Renderer`; make one only where `gl_starts`. Arguments as for `RayCastRenderer`."""

    def __init__(self, model: mujoco.MjModel, camera: str | None = None, width: int = 320, height: int = 240) -> None:
        index = find_camera(model, camera, width, height).camera
        self.name = f"OpenGL ({os.environ.get('MUJOCO_GL', 'window system')})"
        self._model, self._data, self._camera = model, mujoco.MjData(model), index
        # The offscreen buffer is as large as the model says; grow it to the picture.
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, width)
        model.vis.global_.offheight = max(model.vis.global_.offheight, height)
        self._renderer = mujoco.Renderer(model, height, width)
        closing = weakref.finalize(self, _close, self._renderer)
        closing.atexit = False  # too late: mujoco ends EGL before
        atexit.register(closing)
        self._options = mujoco.MjvOption()
        self._options.geomgroup[:] = VISUAL_GROUPS

    def frames(self, qpos: np.ndarray) -> Iterator[np.ndarray]:
        """See `TrajectoryRenderer.frames`."""
        for row in check_trajectory(self._model, qpos):
            self._data.qpos[:] = row
            mujoco.mj_kinematics(self._model, self._data)
            mujoco.mj_camlight(self._model, self._data)
            self._renderer.update_scene(self._data, self._camera, self._options)
            yield self._renderer.render()


def _close(renderer: mujoco.Renderer) -> None:
    """MuJoCo frees buffers by number in whichever OpenGL context is current, and would empty a newer renderer's."""
    if renderer._gl_context:
        renderer._gl_context.make_current()
    renderer.close()
