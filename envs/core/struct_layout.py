"""Where ``mjModel`` and ``mjData`` keep their arrays, for native code that is handed their addresses.

The layout is a matter of MuJoCo's version and of the compiler. The bindings give the address of a struct and of every
array that it points to, so a pointer's place is found by looking for its value; a second, larger object must agree.
"""

from __future__ import annotations

import ctypes
import functools

import mujoco

from fermo.envs.core.backend import BackendError

_SMALL = """<mujoco><custom><numeric name="n" data="1"/></custom><size nuserdata="{n}"/><worldbody>{body}</worldbody>
<actuator>{motor}</actuator></mujoco>"""
_BODY = '<body><joint name="j{i}"/><geom size="0.1"/><site name="s{i}"/></body>'
_WORD = ctypes.sizeof(ctypes.c_void_p)
_LIMIT = 1 << 20  # far beyond what is looked for, and still inside no struct that lacks it


@functools.cache
def pointer_offset(struct: str, field: str) -> int:
    """Bytes from the start of ``"mjModel"`` or ``"mjData"`` to its pointer `field`, or to ``mjData``'s number ``time``.

    Raises:
        BackendError: It is not found, or not at the same place in two objects.
    """
    places = {_find(struct, field, size) for size in (1, 3)}
    if len(places) != 1 or None in places:
        raise BackendError(f"cannot tell where MuJoCo {mujoco.__version__} keeps {struct}.{field}: use mujoco 3.17")
    return places.pop()  # type: ignore[return-value]


def _find(struct: str, field: str, size: int) -> int | None:
    bodies = "".join(_BODY.format(i=i) for i in range(size))
    motors = "".join(f'<motor joint="j{i}"/>' for i in range(size))
    model = mujoco.MjModel.from_xml_string(_SMALL.format(n=size, body=bodies, motor=motors))
    data = mujoco.MjData(model)
    owner = model if struct == "mjModel" else data
    if field == "time":
        data.time = 1.0 + size / 7.0
        wanted = ctypes.c_uint64.from_buffer(ctypes.c_double(data.time)).value
    else:
        wanted = getattr(owner, field).ctypes.data
    for offset in range(0, _LIMIT, _WORD):
        if ctypes.c_uint64.from_address(owner._address + offset).value == wanted:
            return offset
    return None
