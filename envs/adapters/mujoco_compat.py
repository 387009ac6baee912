"""What robosuite 1.5 and gymnasium-robotics 1.4 expect of MuJoCo and newer bindings no longer give.

Call `install` once, before either is imported::

    from fermo.envs.adapters import mujoco_compat

    mujoco_compat.install()
    import robosuite

Since 3.12 the bindings' ``mjt*`` enums differ from NumPy integers (``mjtJoint.mjJNT_HINGE == np.int32(3)`` is false,
while the reverse comparison is true), so that ``model.jnt_type[i] in (mjJNT_HINGE, ...)`` silently fails. And
``MjData.qM`` is gone: ``mj_fullM(model, full, data.qM)`` became ``mj_fullM(model, data, full)``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mujoco
import numpy as np


def install() -> None:
    """Give MuJoCo back the two behaviours where they are missing; a second call finds nothing to do."""
    for name in dir(mujoco):
        if name.startswith("mjt"):
            _compare_with_numpy(getattr(mujoco, name))
    if not hasattr(mujoco.MjData, "qM"):
        mujoco.MjData.qM = property(_SparseInertia)
        mujoco.mj_fullM = _accept_sparse_inertia(mujoco.mj_fullM)


def _compare_with_numpy(enum: Any) -> None:
    member = next(iter(enum.__members__.values()))
    if member == np.int32(int(member)):
        return
    equal = enum.__eq__

    def numpy_equal(self: Any, other: object) -> bool:
        return int(self) == int(other) if isinstance(other, np.integer) else equal(self, other)

    enum.__eq__ = numpy_equal
    enum.__ne__ = lambda self, other: not numpy_equal(self, other)


class _SparseInertia:
    """Stands for ``data.qM``: only says whose inertia is meant."""

    def __init__(self, data: Any) -> None:
        self.data = data


def _accept_sparse_inertia(full_inertia: Callable[..., None]) -> Callable[..., None]:
    """``mj_fullM`` that also understands ``(model, full, data.qM)``."""

    def mj_fullM(m: Any, *arguments: Any, **named: Any) -> None:
        if len(arguments) == 2 and isinstance(arguments[1], _SparseInertia):
            arguments = (arguments[1].data, arguments[0])
        full_inertia(m, *arguments, **named)

    return mj_fullM
