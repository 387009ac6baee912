"""A camera for worlds on the Warp back end: mujoco_warp's ray caster, every pixel of every world in one launch."""

from __future__ import annotations

import math

import mujoco
import mujoco_warp as mjw
import torch
import warp as wp
from torch import Tensor

from fermo.envs.core.backend import BackendError
from fermo.envs.core.backend_warp import WarpBackend
from fermo.envs.core.warp_graph import launching
from fermo.envs.rendering.pinhole import find_camera
from fermo.envs.rendering.raycast import VISUAL_GROUPS

_GEOM = int(mujoco.mjtObj.mjOBJ_GEOM)


class WarpCamera:
    """`Camera` on the device; nothing in it waits, so a captured step may hold it.

    All worlds are rendered whatever the mask is: a launch does not know its size. A kernel is compiled for each set of
    geom types, lights and headlight, which takes up to a minute the first time and is then kept in Warp's own cache.

    Arguments as for `make_camera`.

    Raises:
        BackendError: The model has no camera; the free one exists on the CPU back end only.
    """

    def __init__(self, backend: WarpBackend, name: str | None, width: int, height: int, *, shadows: bool) -> None:
        self.pinhole = find_camera(backend.model, name, width, height)
        if self.pinhole.camera < 0:
            raise BackendError("the warp back end sees through cameras of the model, and this one has none: add one")
        self._backend = backend
        groups = [group for group, drawn in enumerate(VISUAL_GROUPS) if drawn]
        with launching(backend.device):
            self._context = mjw.create_render_context(
                backend.model, nworld=backend.num_worlds, cam_active=[self.pinhole.camera], cam_res=(width, height),
                render_rgb=True, render_depth=True, render_seg=True, use_shadows=shadows, enabled_geom_groups=groups,
                enable_backface_culling=False,  # as in MuJoCo, a camera inside a primitive sees it from inside
            )  # fmt: skip
            self._context.zfar = 0.0  # no limit
            self._depth, self._geom, self._colour, self._wants_colour, rays = (
                wp.to_torch(getattr(self._context, array))
                for array in ("depth_data", "seg_data", "rgb_data", "render_rgb", "ray")
            )
        rays.copy_(torch.as_tensor(self.pinhole.directions(), dtype=torch.float32))
        backend.forward(torch.zeros_like(backend.failed))  # derived arrays are zero until computed once

    def depth_and_segmentation(self, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """See `Camera.depth_and_segmentation`. A flex has depth, but no geom index."""
        self._render(colour=False)
        index, kind = self._geom.unbind(dim=-1)
        seen = kind >= 0
        if mask is not None:
            seen = seen & mask[:, None]
        depth = torch.where(seen, self._depth, math.inf)
        return self._shaped(depth), self._shaped(torch.where(seen & (kind == _GEOM), index, -1))

    def rgb(self, mask: Tensor | None = None) -> Tensor:
        """See `Camera.rgb`."""
        self._render(colour=True)
        packed = self._colour.view(torch.uint8).view(*self._colour.shape, 4)  # blue, green, red, alpha
        picture = self._shaped(packed[..., :3].flip(-1))
        return picture if mask is None else picture * mask[:, None, None, None]

    def _render(self, *, colour: bool) -> None:
        m, d = self._backend._m, self._backend._d
        self._wants_colour.fill_(colour)  # on the device: shading is skipped without a second kernel
        with launching(self._backend.device):
            mjw.refit_bvh(m, d, self._context)
            mjw.render(m, d, self._context)

    def _shaped(self, pixels: Tensor) -> Tensor:
        """``(N, P, ...)`` as ``(N, height, width, ...)``."""
        return pixels.unflatten(1, (self.pinhole.height, self.pinhole.width))
