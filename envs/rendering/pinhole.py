"""The pinhole camera: where it stands in each world and the direction of each pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

from fermo.errors import FermoError, unknown_name

_ORTHOGRAPHIC = int(mujoco.mjtProjection.mjPROJ_ORTHOGRAPHIC)


@dataclass(frozen=True, kw_only=True)
class Pinhole:
    """A perspective camera of one size; its own frame is MuJoCo's: x right, y up, looking along -z.

    Attributes:
        camera: Index of the model's camera, or -1 for a free camera that sees the whole model.
        width: Pixels across.
        height: Pixels down.
        fovy: Vertical field of view [rad].
    """

    camera: int
    width: int
    height: int
    fovy: float

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise FermoError(f"a picture needs at least one pixel each way, got {self.width} x {self.height}")

    def directions(self, offset_x: float = 0.0, offset_y: float = 0.0) -> np.ndarray:
        """Unit vectors through the pixels, row by row from the top left, camera frame, shape ``(height * width, 3)``.

        The offsets move the ray inside its pixel, in pixels from its centre.
        """
        tangent = math.tan(self.fovy / 2)
        x = (2 * (np.arange(self.width) + 0.5 + offset_x) / self.width - 1) * tangent * self.width / self.height
        y = (1 - 2 * (np.arange(self.height) + 0.5 + offset_y) / self.height) * tangent
        grid = np.stack([*np.meshgrid(x, y), np.full((self.height, self.width), -1.0)], axis=-1).reshape(-1, 3)
        return grid / np.linalg.norm(grid, axis=1, keepdims=True)


def find_camera(model: mujoco.MjModel, name: str | None, width: int, height: int) -> Pinhole:
    """The camera called `name`; None gives the model's first one, or a free camera where it has none.

    Raises:
        FermoError: The model has no such camera, or it is orthographic.
    """
    if name is None and model.ncam == 0:
        return Pinhole(camera=-1, width=width, height=height, fovy=math.radians(model.vis.global_.fovy))
    index = 0 if name is None else mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if index < 0:
        names = [model.camera(i).name for i in range(model.ncam)]
        raise unknown_name("camera", str(name), names) if names else FermoError(f"no camera {name!r} in this model")
    if model.cam_projection[index] == _ORTHOGRAPHIC:
        raise FermoError(f"camera {model.camera(index).name!r} is orthographic; choose one with perspective")
    return Pinhole(camera=index, width=width, height=height, fovy=math.radians(model.cam_fovy[index]))


def free_pose(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """Position ``(3,)`` [m] and rotation ``(3, 3)`` of the camera MuJoCo's viewer opens with."""
    azimuth, elevation = (math.radians(angle) for angle in (model.vis.global_.azimuth, model.vis.global_.elevation))
    forward = np.array(
        [math.cos(elevation) * math.cos(azimuth), math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
    )
    right = np.array([math.sin(azimuth), -math.cos(azimuth), 0.0])
    rotation = np.stack([right, np.cross(right, forward), -forward], axis=1)
    return model.stat.center - 1.5 * model.stat.extent * forward, rotation
