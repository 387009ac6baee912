"""What a camera of simulated worlds gives, whichever engine moves them."""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from fermo.envs.core.backend import Backend
from fermo.envs.core.backend_cpu import CpuBackend
from fermo.envs.rendering.pinhole import Pinhole
from fermo.envs.rendering.raycast import RayCastCamera, RayCastConfig


class Camera(Protocol):
    """Looks at N worlds from one camera of their model; nothing in the worlds is changed.

    Every pixel is the ray through its centre, row by row from the top left. Geoms of groups 0 to 2 are seen. Worlds
    are seen as their derived arrays describe them (`Backend.read`). Pictures are new tensors on the back end's device.
    Rows outside `mask` ``(N,)`` bool hold nothing, as if the camera looked into empty space; None is every world.

    Attributes:
        pinhole: Size and field of view, those of the compiled model in every world.
    """

    pinhole: Pinhole

    def depth_and_segmentation(self, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Depth along the optical axis [m] and geom indices, each ``(N, height, width)``, float32 and int32.

        Where nothing is, depth is ``inf`` and the index -1.
        """
        ...

    def rgb(self, mask: Tensor | None = None) -> Tensor:
        """Colour, ``(N, height, width, 3)`` uint8; the engines shade differently. Rows outside `mask` are black."""
        ...


def make_camera(backend: Backend, name: str | None = None, width: int = 64, height: int = 64, *,
                shadows: bool = False) -> Camera:  # fmt: skip
    """A camera for the worlds of `backend`: on its threads, or on its device.

    Args:
        backend: Whose worlds to look at.
        name: Camera of the model; None takes its first one.
        width: Pixels across.
        height: Pixels down.
        shadows: Whether lights cast shadows in colour pictures.

    Raises:
        FermoError: No such camera, or one without perspective.
    """
    if isinstance(backend, CpuBackend):
        return CpuCamera(backend, name, width, height, shadows=shadows)
    from fermo.envs.core.backend_warp import WarpBackend
    from fermo.envs.rendering.warp_camera import WarpCamera

    assert isinstance(backend, WarpBackend)
    return WarpCamera(backend, name, width, height, shadows=shadows)


class CpuCamera:
    """`Camera` on MuJoCo's native batch: threads over worlds, and only those of the mask cost anything.

    Arguments as for `make_camera`.
    """

    def __init__(self, backend: CpuBackend, name: str | None, width: int, height: int, *, shadows: bool) -> None:
        config = RayCastConfig(antialias=False, shadows=shadows)
        self._camera = RayCastCamera(backend, name, width, height, config=config)
        self._num_worlds = backend.num_worlds
        self.pinhole = self._camera.pinhole

    def depth_and_segmentation(self, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Camera.depth_and_segmentation`."""
        shape = (self._num_worlds, self.pinhole.height, self.pinhole.width)
        depth, geom = np.full(shape, math.inf, np.float32), np.full(shape, -1, np.int32)
        worlds = self._worlds(mask)
        if len(worlds):
            depth[worlds], geom[worlds] = self._camera.depth_and_segmentation(worlds)
        return torch.from_numpy(depth), torch.from_numpy(geom)

    def rgb(self, mask: Tensor | None = None) -> Tensor:
        """See `Camera.rgb`."""
        pictures = np.zeros((self._num_worlds, self.pinhole.height, self.pinhole.width, 3), np.uint8)
        worlds = self._worlds(mask)
        if len(worlds):
            pictures[worlds] = self._camera.rgb(worlds)
        return torch.from_numpy(pictures)

    def _worlds(self, mask: Tensor | None) -> np.ndarray:
        return np.arange(self._num_worlds) if mask is None else np.flatnonzero(mask.numpy())
