"""From what a ray hit to a colour: Lambert and Blinn-Phong under the model's own lights, and a sky."""

from __future__ import annotations

import math
from dataclasses import dataclass

import mujoco
import numpy as np

_DEFAULT_RGBA = np.array([0.5, 0.5, 0.5, 1.0], np.float32)
_HORIZON = np.array([0.93, 0.95, 0.97], np.float32)
_ZENITH = np.array([0.52, 0.68, 0.86], np.float32)
_FADE = (0.15, 0.6)  # periods of a texture a pixel covers, from where it begins to fade to where its mean is left
_RGB_ROLE = int(mujoco.mjtTextureRole.mjTEXROLE_RGB)


@dataclass(frozen=True, kw_only=True)
class Hits:
    """What K rays met; rays that met nothing have ``geom == -1``.

    Attributes:
        origin: Where each ray began, shape ``(K, 3)`` [m].
        direction: Its unit direction, shape ``(K, 3)``.
        distance: Along the ray, shape ``(K,)`` [m].
        geom: Geom index, shape ``(K,)``.
        normal: Unit outward normal turned towards the ray, shape ``(K, 3)``.
    """

    origin: np.ndarray
    direction: np.ndarray
    distance: np.ndarray
    geom: np.ndarray
    normal: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """Where the rays ended, shape ``(K, 3)`` [m]."""
        return self.origin + self.distance[:, None] * self.direction

    def take(self, rows: np.ndarray) -> Hits:
        """The rays in `rows`."""
        return Hits(
            origin=self.origin[rows], direction=self.direction[rows], distance=self.distance[rows],
            geom=self.geom[rows], normal=self.normal[rows],
        )  # fmt: skip


def sky(direction: np.ndarray) -> np.ndarray:
    """Colour of the background along unit directions ``(K, 3)``, shape ``(K, 3)`` in 0..1."""
    height = np.clip(direction[:, 2:], 0.0, 1.0).astype(np.float32)
    return _HORIZON + (_ZENITH - _HORIZON) * np.sqrt(height)


class Shader:
    """Colours of surfaces as the model's materials, textures on planes and lights give them.

    I = albedo (ambient + sum_l diffuse_l max(0, n . l)) + sum_l specular_l max(0, n . h)^e, with the unit vectors n of
    the surface, l towards light l and h halfway between l and the eye (Blinn, "Models of light reflection", 1977). The
    headlight shines along each ray.

    Attributes:
        colours: Of each geom in white light, textures aside, shape ``(ngeom, 3)`` in 0..1.
    """

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        has_material = model.geom_matid >= 0
        plain = (model.geom_rgba == _DEFAULT_RGBA).all(axis=1)
        self.colours = model.geom_rgba[:, :3].astype(np.float32).copy()
        from_material = has_material & plain
        self.colours[from_material] = model.mat_rgba[model.geom_matid[from_material], :3]
        # Without a material MuJoCo takes specular 0.5 and shininess 0.5; exponents are 128 times the shininess.
        self._specular = np.full(model.ngeom, 0.5, np.float32)
        self._exponent = np.full(model.ngeom, 64.0, np.float32)
        self._specular[has_material] = model.mat_specular[model.geom_matid[has_material]]
        self._exponent[has_material] = 128 * np.maximum(model.mat_shininess[model.geom_matid[has_material]], 0.02)
        self._textured = [geom for geom in range(model.ngeom) if self._texture(geom) >= 0]

    @property
    def lights(self) -> list[int]:
        """Lights of the model that are on."""
        return [light for light in range(self._model.nlight) if self._model.light_active[light]]

    def _texture(self, geom: int) -> int:
        model, material = self._model, self._model.geom_matid[geom]
        if material < 0 or model.geom_type[geom] != mujoco.mjtGeom.mjGEOM_PLANE:
            return -1
        return int(model.mat_texid[material, _RGB_ROLE])

    def albedo(self, hits: Hits, geom_pose: tuple[np.ndarray, np.ndarray], pixel_angle: float) -> np.ndarray:
        """Colour of the surfaces in white light, shape ``(K, 3)``.

        Args:
            hits: Rays that all met something.
            geom_pose: Position ``(K, 3)`` [m] and rotation ``(K, 3, 3)`` of the geom each ray met.
            pixel_angle: Between neighbouring rays [rad]; texture finer than a pixel fades to its mean.
        """
        colour = self.colours[hits.geom]
        for geom in self._textured:
            rows = np.flatnonzero(hits.geom == geom)
            if len(rows):
                position, rotation = geom_pose[0][rows], geom_pose[1][rows]
                local = np.einsum("kij,ki->kj", rotation, hits.points[rows] - position)
                slant = np.abs(np.einsum("ki,ki->k", hits.normal[rows], hits.direction[rows]))
                footprint = pixel_angle * hits.distance[rows] / np.maximum(slant, 1e-3)
                colour[rows] *= self._sample(geom, local[:, :2], footprint)
        return colour

    def _sample(self, geom: int, xy: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Texture of a plane at points ``(K, 2)`` of its own frame [m], nearest texel, under pixels this wide [m]."""
        model, material, texture = self._model, self._model.geom_matid[geom], self._texture(geom)
        size = np.where(model.geom_size[geom, :2] > 0, model.geom_size[geom, :2], 0.5)
        uniform, repeat = model.mat_texuniform[material], model.mat_texrepeat[material]
        unit = np.mod((xy if uniform else xy / (2 * size) + 0.5) * repeat, 1.0)
        periods = footprint * (repeat if uniform else repeat / (2 * size)).max()
        fade = np.clip((periods - _FADE[0]) / (_FADE[1] - _FADE[0]), 0.0, 1.0)[:, None].astype(np.float32)
        width, height, channels = model.tex_width[texture], model.tex_height[texture], model.tex_nchannel[texture]
        start = model.tex_adr[texture]
        texels = model.tex_data[start : start + width * height * channels].reshape(height, width, channels)[..., :3]
        columns, rows = (unit * (width, height)).astype(int).T
        sharp = texels[np.minimum(rows, height - 1), np.minimum(columns, width - 1)].astype(np.float32)
        return (sharp + fade * (texels.mean(axis=(0, 1), dtype=np.float32) - sharp)) / 255

    def towards_light(
        self, light: int, points: np.ndarray, position: np.ndarray, axis: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Unit vectors to a light ``(K, 3)``, distances ``(K,)`` [m] and strengths ``(K,)`` at points ``(K, 3)``."""
        model = self._model
        if model.light_type[light] == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL:
            return np.broadcast_to(-axis, points.shape), np.full(len(points), np.inf), np.ones(len(points), np.float32)
        offset = position - points
        distance = np.linalg.norm(offset, axis=1)
        unit = offset / np.maximum(distance, 1e-9)[:, None]
        constant, linear, quadratic = model.light_attenuation[light]
        strength = 1 / np.maximum(constant + linear * distance + quadratic * distance**2, 1e-6)
        if model.light_type[light] == mujoco.mjtLightType.mjLIGHT_SPOT:
            along = np.clip(-np.einsum("ki,ki->k", unit, np.broadcast_to(axis, unit.shape)), 0.0, 1.0)
            inside = along > math.cos(math.radians(min(model.light_cutoff[light], 90.0)))
            strength = strength * inside * along ** model.light_exponent[light]
        return unit, distance, strength.astype(np.float32)

    def exposure(self, bounce: float) -> float:
        """Factor under which white that faces every light is still not clipped."""
        lamp = self._model.vis.headlight
        total = self.ambient() + bounce + np.asarray(lamp.diffuse) * bool(lamp.active)
        for light in self.lights:
            total = total + self._model.light_diffuse[light]
        return float(1.0 / max(1.0, total.max()))

    def ambient(self) -> np.ndarray:
        """Ambient light of the headlight and all lights, shape ``(3,)``."""
        total = np.array(self._model.vis.headlight.ambient, np.float32) * bool(self._model.vis.headlight.active)
        for light in self.lights:
            total = total + self._model.light_ambient[light]
        return total

    def headlight(self, hits: Hits) -> tuple[np.ndarray, np.ndarray]:
        """Diffuse and specular light of the headlight, each ``(K, 3)``."""
        lamp = self._model.vis.headlight
        if not lamp.active:
            return np.zeros((len(hits.geom), 3), np.float32), np.zeros((len(hits.geom), 3), np.float32)
        return self.reflect(hits, -hits.direction, np.asarray(lamp.diffuse), np.asarray(lamp.specular))

    def reflect(
        self, hits: Hits, to_light: np.ndarray, diffuse: np.ndarray, specular: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Diffuse and specular light that surfaces send back along the rays, each ``(K, 3)``, for one light."""
        cosine = np.clip(np.einsum("ki,ki->k", hits.normal, to_light), 0.0, None).astype(np.float32)
        half = to_light - hits.direction
        half = half / np.maximum(np.linalg.norm(half, axis=1, keepdims=True), 1e-9)
        facing = np.clip(np.einsum("ki,ki->k", hits.normal, half), 0.0, 1.0).astype(np.float32)
        shine = self._specular[hits.geom] * facing ** self._exponent[hits.geom] * (cosine > 0)
        return cosine[:, None] * diffuse.astype(np.float32), shine[:, None] * specular.astype(np.float32)
