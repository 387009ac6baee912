"""A camera-based tracker of one object: frames at its own rate, latency, noise, dropped and occluded frames.

The same model runs batched in simulation and alone inside a twin, so a policy meets one device, not two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fermo.envs.core.random import WorldRandom


@dataclass(frozen=True, kw_only=True)
class ObjectTrackerConfig:
    """What is known of the device.

    Attributes:
        rate_hz: Frames per second.
        latency_s: From capture to delivery [s].
        position_noise: Standard deviation per axis [m].
        yaw_noise: Standard deviation [rad].
        dropout: Probability that a frame is lost.
        camera_position: In the base frame [m].
        occluder_radius: Radius of the capsule around the gripper that hides the object [m].
        occluder_span: Where along the axis from tool to wrist the capsule lies, as fractions.
    """

    rate_hz: float = 30.0
    latency_s: float = 0.05
    position_noise: float = 0.001
    yaw_noise: float = 0.02
    dropout: float = 0.02
    camera_position: tuple[float, float, float] = (0.45, -0.30, 0.40)
    occluder_radius: float = 0.03
    occluder_span: tuple[float, float] = (0.5, 1.5)

    def __post_init__(self) -> None:
        if self.rate_hz <= 0 or self.latency_s < 0 or not 0 <= self.dropout < 1:
            raise ValueError(f"rate_hz > 0, latency_s >= 0 and 0 <= dropout < 1 are needed, got {self}")


class ObjectTracker:
    """Tracks one object in each of N worlds.

    Attributes:
        position: Last delivered position, shape ``(N, 3)`` [m].
        heading: Last delivered ``(cos 4 yaw, sin 4 yaw)``, shape ``(N, 2)``.
        capture_time: When that frame was captured, shape ``(N,)`` [s].
        sequence: Number of that frame, shape ``(N,)``.

    Args:
        config: The device.
        random: The worlds' random numbers; noise is drawn by frame number.
        max_update_dt: Longest time between two calls of `update` [s]; bounds the frames looked at per call.
    """

    def __init__(self, config: ObjectTrackerConfig, random: WorldRandom, *, max_update_dt: float) -> None:
        self.config, self.random = config, random
        n, device = len(random.worlds), random.worlds.device
        self._frames_per_update = math.ceil(max_update_dt * config.rate_hz - 1e-9) + 1
        # Frames in flight, indexed by frame number modulo the ring's length; an invisible frame has capture time -inf.
        self._ring = math.ceil(config.latency_s * config.rate_hz) + self._frames_per_update + 1
        self._captured = torch.full((n, self._ring), -math.inf, dtype=torch.float64, device=device)
        self._measured = torch.zeros(n, self._ring, 5, dtype=torch.float64, device=device)
        self._frame = torch.zeros(n, dtype=torch.int64, device=device)
        self._phase = torch.zeros(n, dtype=torch.float64, device=device)
        self._last_time = torch.zeros(n, dtype=torch.float64, device=device)
        self._last_scene = torch.zeros(n, 11, dtype=torch.float64, device=device)
        self._camera = torch.tensor(config.camera_position, dtype=torch.float64, device=device)
        self._delivered = torch.zeros(n, 5, dtype=torch.float64, device=device)
        self.capture_time = torch.zeros(n, dtype=torch.float64, device=device)
        self.sequence = torch.zeros(n, dtype=torch.int64, device=device)

    @property
    def position(self) -> Tensor:
        """Last delivered position, shape ``(N, 3)`` [m]."""
        return self._delivered[:, :3]

    @property
    def heading(self) -> Tensor:
        """Last delivered ``(cos 4 yaw, sin 4 yaw)``, shape ``(N, 2)``."""
        return self._delivered[:, 3:]

    def reset(
        self, mask: Tensor, time: Tensor, position: Tensor, quaternion: Tensor, tool: Tensor, wrist: Tensor
    ) -> None:
        """Start tracking in the worlds of `mask` ``(N,)``, one frame already delivered; arguments as for `update`."""
        scene = _scene(position, quaternion, tool, wrist)
        phase = time + self.random.uniform("tracker phase") / self.config.rate_hz
        first, _ = self._measure(scene, torch.zeros_like(self._frame))
        rows = mask[:, None]
        self._captured = torch.where(rows, -math.inf, self._captured)
        self._frame = torch.where(mask, 1, self._frame)
        self._phase = torch.where(mask, phase, self._phase)
        self._last_time = torch.where(mask, time, self._last_time)
        self._last_scene = torch.where(rows, scene, self._last_scene)
        self._delivered = torch.where(rows, first, self._delivered)
        self.capture_time = torch.where(mask, time, self.capture_time)
        self.sequence = torch.where(mask, 0, self.sequence)

    def update(self, time: Tensor, position: Tensor, quaternion: Tensor, tool: Tensor, wrist: Tensor) -> None:
        """Capture the frames due since the last call and deliver those whose latency has passed.

        Between two calls the scene is taken to move on a straight line.

        Args:
            time: Now, shape ``(N,)`` [s].
            position: Object's centre, shape ``(N, 3)`` [m].
            quaternion: Object's orientation (w, x, y, z), shape ``(N, 4)``.
            tool: Point between the jaw pads, shape ``(N, 3)`` [m].
            wrist: Point on the gripper's axis behind it, shape ``(N, 3)`` [m].
        """
        scene = _scene(position, quaternion, tool, wrist)
        span = (time - self._last_time).clamp(min=1e-9)
        for _ in range(self._frames_per_update):
            capture = self._phase + (self._frame - 1).to(torch.float64) / self.config.rate_hz
            due = capture <= time + 1e-9
            blend = ((capture - self._last_time) / span).clamp(0.0, 1.0)[:, None]
            measured, visible = self._measure(torch.lerp(self._last_scene, scene, blend), self._frame)
            slot = (self._frame % self._ring)[:, None]
            stamp = torch.where(visible, capture, -math.inf)[:, None]
            stamp = torch.where(due[:, None], stamp, self._captured.gather(1, slot))
            self._captured = self._captured.scatter(1, slot, stamp)
            rows = slot[:, :, None].expand(-1, 1, 5)
            kept = torch.where(due[:, None, None], measured[:, None], self._measured.gather(1, rows))
            self._measured = self._measured.scatter(1, rows, kept)
            self._frame = self._frame + due.to(torch.int64)
        self._last_time, self._last_scene = time.clone(), scene
        self._deliver(time)

    def _deliver(self, time: Tensor) -> None:
        arrived = torch.where(self._captured + self.config.latency_s <= time[:, None] + 1e-9, self._captured, -math.inf)
        newest, slot = arrived.max(dim=1)
        news = newest > self.capture_time
        measured = self._measured.gather(1, slot[:, None, None].expand(-1, 1, 5))[:, 0]
        self._delivered = torch.where(news[:, None], measured, self._delivered)
        self.capture_time = torch.where(news, newest, self.capture_time)
        self.sequence = self.sequence + news.to(torch.int64)

    def _measure(self, scene: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        """A noisy measurement ``(N, 5)`` and whether the camera saw the object ``(N,)``."""
        config = self.config
        noise = self.random.normal("tracker noise", (4,), step=frame)
        position = scene[:, :3] + config.position_noise * noise[:, :3]
        turn = 4.0 * config.yaw_noise * noise[:, 3]
        c, s = torch.cos(turn), torch.sin(turn)
        heading = torch.stack([scene[:, 3] * c - scene[:, 4] * s, scene[:, 3] * s + scene[:, 4] * c], dim=1)
        kept = self.random.uniform("tracker dropout", step=frame) >= config.dropout
        return torch.cat([position, heading], dim=1), kept & ~self._occluded(scene)

    def _occluded(self, scene: Tensor) -> Tensor:
        """Whether the line of sight passes through the capsule around the gripper, ``(N,)`` bool."""
        cube, tool, wrist = scene[:, :3], scene[:, 5:8], scene[:, 8:11]
        near, far = self.config.occluder_span
        a, b = tool + near * (wrist - tool), tool + far * (wrist - tool)
        distance = _segment_distance(cube, self._camera.expand_as(cube), a, b)
        return distance < self.config.occluder_radius


def _scene(position: Tensor, quaternion: Tensor, tool: Tensor, wrist: Tensor) -> Tensor:
    w, x, y, z = quaternion.unbind(dim=1)
    yaw = torch.atan2(2.0 * (w * z + x * y), 1.0 - 2.0 * (y * y + z * z))
    parts = [position, torch.cos(4 * yaw)[:, None], torch.sin(4 * yaw)[:, None], tool, wrist]
    return torch.cat([part.to(torch.float64) for part in parts], dim=1)


def _segment_distance(p0: Tensor, p1: Tensor, q0: Tensor, q1: Tensor) -> Tensor:
    """Distance between the segments p0-p1 and q0-q1, shape ``(N,)`` (Ericson, Real-Time Collision Detection, 5.1.9)."""
    d1, d2, r = p1 - p0, q1 - q0, p0 - q0
    a, e, f = (d1 * d1).sum(1).clamp(min=1e-12), (d2 * d2).sum(1).clamp(min=1e-12), (d2 * r).sum(1)
    b, c = (d1 * d2).sum(1), (d1 * r).sum(1)
    s = ((b * f - c * e) / (a * e - b * b).clamp(min=1e-12)).clamp(0.0, 1.0)
    t = ((b * s + f) / e).clamp(0.0, 1.0)
    s = ((b * t - c) / a).clamp(0.0, 1.0)
    return (p0 + s[:, None] * d1 - q0 - t[:, None] * d2).norm(dim=1)
