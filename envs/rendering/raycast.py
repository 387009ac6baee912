"""A camera that needs no OpenGL: rays on MuJoCo's native batch, every world at once, on all threads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import mujoco
import mujoco.batch
import numpy as np

from fermo.envs.core.backend_cpu import CpuBackend
from fermo.envs.rendering.pinhole import Pinhole, find_camera, free_pose
from fermo.envs.rendering.shading import Hits, Shader, sky

VISUAL_GROUPS = np.array([1, 1, 1, 0, 0, 0], np.uint8)
"""Geom groups that are drawn; by convention groups 3 and above hold collision shapes."""

_RAYS_AT_ONCE = 1_000_000  # bounds the memory of one call to about 100 MB
_LIFT = 1e-4  # [m] off the surface, so that a shadow ray does not meet the geom it leaves
_VISIBLE_EDGE = 0.08  # difference between neighbours, in 0..1, from which a pixel is worth four more rays
_GAMMA = 0.8  # lifts the shadows; screens are darker than the sum of light suggests
_SUBPIXELS = ((-0.25, -0.25), (0.25, -0.25), (-0.25, 0.25), (0.25, 0.25))


@dataclass(frozen=True, kw_only=True)
class RayCastConfig:
    """How pictures are made.

    Attributes:
        antialias: Send four more rays through pixels that differ visibly from a neighbour.
        shadows: Every light of the model casts shadows; off, none does.
        bounce: Light added from all sides, brighter from above, so that shaded faces keep their shape, in 0..1.
    """

    antialias: bool = True
    shadows: bool = True
    bounce: float = 0.28


class RayCastCamera:
    """Colour, depth and segmentation of N worlds from one camera of their model.

    Cameras and lights stand where the engine last computed them, as the other derived arrays do; geoms stand where the
    state puts them. Nothing in the worlds is changed.

    Args:
        worlds: The batch, or the CPU back end that owns it.
        camera: Camera of the model; None takes its first one, or a free camera where it has none.
        width: Pixels across.
        height: Pixels down.
        config: How pictures are made.

    Raises:
        FermoError: No such camera.
    """

    def __init__(
        self,
        worlds: CpuBackend | mujoco.batch.Batch,
        camera: str | None = None,
        width: int = 320,
        height: int = 240,
        *,
        config: RayCastConfig | None = None,
    ) -> None:
        self.batch = worlds.batch if isinstance(worlds, CpuBackend) else worlds
        self.pinhole: Pinhole = find_camera(self.batch.model, camera, width, height)
        self.config = config or RayCastConfig()
        self._shader = Shader(self.batch.model)
        names = ("cam_xpos", "cam_xmat", "light_xpos", "light_xdir", "geom_xpos", "geom_xmat")
        self._derived = {name: self.batch.bind(name) for name in names}
        # A derived array is zero until computed once; the velocity stage leaves everything else as it was.
        self.batch.forward(stage=mujoco.mjtStage.mjSTAGE_VEL)

    def rgb(self, worlds: np.ndarray | None = None) -> np.ndarray:
        """Pictures, shape ``(K, height, width, 3)`` uint8, of the worlds given by rising index; None for all."""
        return np.concatenate([self._rgb(part) for part in self._parts(worlds)])

    def depth_and_segmentation(self, worlds: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Depth along the optical axis [m], infinite where nothing is, and geom indices, -1 where nothing is.

        Shapes ``(K, height, width)``, float32 and int32, of the worlds given by rising index; None for all. Each pixel
        is its centre's ray, never an average.
        """
        shape = (-1, self.pinhole.height, self.pinhole.width)
        depths, geoms = [], []
        directions = self.pinhole.directions()
        for part in self._parts(worlds):
            hits = self._cast(part, directions)
            depth = hits.distance.reshape(len(part), -1) * -directions[:, 2]
            seen = hits.geom.reshape(len(part), -1) >= 0
            depths.append(np.where(seen, depth, np.inf).astype(np.float32).reshape(shape))
            geoms.append(hits.geom.astype(np.int32).reshape(shape))
        return np.concatenate(depths), np.concatenate(geoms)

    def _parts(self, worlds: np.ndarray | None) -> Iterator[np.ndarray]:
        chosen = np.arange(self.batch.nsim) if worlds is None else np.atleast_1d(worlds)
        step = max(1, _RAYS_AT_ONCE // (self.pinhole.width * self.pinhole.height))
        for start in range(0, len(chosen), step):
            yield chosen[start : start + step]

    def _pose(self, worlds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Camera positions ``(K, 3)`` [m] and rotations ``(K, 3, 3)``."""
        if self.pinhole.camera < 0:
            position, rotation = free_pose(self.batch.model)
            return np.tile(position, (len(worlds), 1)), np.tile(rotation, (len(worlds), 1, 1))
        position = self._derived["cam_xpos"][worlds, self.pinhole.camera]
        return position, self._derived["cam_xmat"][worlds, self.pinhole.camera].reshape(-1, 3, 3)

    def _cast(self, worlds: np.ndarray, directions: np.ndarray) -> Hits:
        """Send rays ``(R, 3)`` or ``(K, R, 3)``, camera frame, from K worlds' cameras; K R hits, world by world."""
        position, rotation = self._pose(worlds)
        rays = directions @ rotation.transpose(0, 2, 1)
        distance, geom, normal = self.batch.ray(position[:, None], rays, VISUAL_GROUPS, ids=worlds, normal=True)
        origin = np.broadcast_to(position[:, None], rays.shape).reshape(-1, 3)
        rays, normal = rays.reshape(-1, 3), normal.reshape(-1, 3)
        away = np.einsum("ki,ki->k", normal, rays) > 0
        normal = np.where(away[:, None], -normal, normal)
        return Hits(origin=origin, direction=rays, distance=distance.ravel(), geom=geom.ravel(), normal=normal)

    def _rgb(self, worlds: np.ndarray) -> np.ndarray:
        pinhole, count = self.pinhole, len(worlds)
        colour = self._shade(worlds, self._cast(worlds, pinhole.directions()))
        picture = colour.reshape(count, pinhole.height, pinhole.width, 3)
        if self.config.antialias:
            edges = _edges(picture).reshape(count, -1)
            self._refine(worlds, picture.reshape(count, -1, 3), edges)
        return np.rint(np.clip(picture, 0.0, 1.0) ** _GAMMA * 255).astype(np.uint8)

    def _refine(self, worlds: np.ndarray, picture: np.ndarray, edges: np.ndarray) -> None:
        """Replace the pixels of `edges` ``(K, P)`` by the mean of four rays; all worlds send as many as the busiest."""
        most = int(edges.sum(axis=1).max())
        if most == 0:
            return
        pixels = np.argsort(~edges, axis=1, kind="stable")[:, :most]
        rows = np.arange(len(worlds))[:, None]
        total = np.zeros((len(worlds), most, 3), np.float32)
        for offset in _SUBPIXELS:
            hits = self._cast(worlds, self.pinhole.directions(*offset)[pixels])
            total += self._shade(worlds, hits).reshape(total.shape)
        wanted = edges[rows, pixels][..., None]
        picture[rows, pixels] = np.where(wanted, total / len(_SUBPIXELS), picture[rows, pixels])

    def _shade(self, worlds: np.ndarray, hits: Hits) -> np.ndarray:
        """Colours ``(K R, 3)`` in 0..1 of hits that come world by world."""
        colour = sky(hits.direction)
        rows = np.flatnonzero(hits.geom >= 0)
        if len(rows) == 0:
            return colour
        met, local = hits.take(rows), rows // (len(hits.geom) // len(worlds))
        world = worlds[local]
        rotation = self._derived["geom_xmat"][world, met.geom].reshape(-1, 3, 3)
        pose = self._derived["geom_xpos"][world, met.geom], rotation
        diffuse, specular = self._shader.headlight(met)
        diffuse = diffuse + self._shader.ambient()
        diffuse += self.config.bounce * (0.7 + 0.3 * met.normal[:, 2:]).astype(np.float32)
        for light in self._shader.lights:
            axis, position = self._derived["light_xdir"][world, light], self._derived["light_xpos"][world, light]
            to_light, distance, strength = self._shader.towards_light(light, met.points, position, axis)
            if self.config.shadows:
                strength = strength * self._lit(worlds, hits, rows, to_light, distance)
            model = self.batch.model
            lit, shine = self._shader.reflect(met, to_light, model.light_diffuse[light], model.light_specular[light])
            diffuse, specular = diffuse + strength[:, None] * lit, specular + strength[:, None] * shine
        albedo = self._shader.albedo(met, pose, self.pinhole.fovy / self.pinhole.height)
        colour[rows] = self._shader.exposure(self.config.bounce) * (albedo * diffuse + specular)
        return colour

    def _lit(
        self, worlds: np.ndarray, hits: Hits, rows: np.ndarray, to_light: np.ndarray, distance: np.ndarray
    ) -> np.ndarray:
        """Whether nothing stands between the hits in `rows` and a light, shape ``(len(rows),)``."""
        met, shape = hits.take(rows), (len(worlds), -1, 3)
        # Rays that hit nothing, or a face turned away, look straight down from far below the scene: the cheapest miss.
        start = np.tile(np.array([0.0, 0.0, -1e6]), (len(hits.geom), 1))
        aim = np.tile(np.array([0.0, 0.0, -1.0]), (len(hits.geom), 1))
        facing = np.einsum("ki,ki->k", met.normal, to_light) > 0
        start[rows[facing]] = (met.points + _LIFT * met.normal)[facing]
        aim[rows[facing]] = to_light[facing]
        blocked, geom = self.batch.ray(start.reshape(shape), aim.reshape(shape), VISUAL_GROUPS, ids=worlds)
        return (geom.ravel()[rows] < 0) | (blocked.ravel()[rows] > distance)


def _edges(picture: np.ndarray) -> np.ndarray:
    """Pixels ``(K, height, width)`` that differ visibly from one above, below, left or right of them."""
    edges = np.zeros(picture.shape[:3], bool)
    for axis in (1, 2):
        step = np.abs(np.diff(picture, axis=axis)).max(axis=-1) > _VISIBLE_EDGE
        before, after = [slice(None)] * 3, [slice(None)] * 3
        before[axis], after[axis] = slice(None, -1), slice(1, None)
        edges[tuple(before)] |= step
        edges[tuple(after)] |= step
    return edges
