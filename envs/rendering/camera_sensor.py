"""A camera as a device: pictures at its own rate, with latency, and as an observation of any task."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor

from fermo.envs.core.task import Sensor, Simulation, Task
from fermo.envs.rendering.camera import make_camera
from fermo.envs.rendering.pinhole import find_camera
from fermo.errors import FermoError
from fermo.signal import Signal

TaskT = TypeVar("TaskT", bound=Task)


@dataclass(frozen=True, kw_only=True)
class CameraSensorConfig:
    """What is known of the device.

    Attributes:
        camera: Camera of the model; None takes its first one.
        picture: ``"depth"`` [m] or ``"rgb"`` (0 to 1).
        width: Pixels across.
        height: Pixels down.
        rate_hz: Pictures per second, the control rate or a whole fraction of it; the control rate when None.
        latency_s: From capture to delivery [s], rounded up to whole control steps.
        max_depth: What is farther, or nothing at all, reads as this [m].
    """

    camera: str | None = None
    picture: Literal["depth", "rgb"] = "depth"
    width: int = 64
    height: int = 64
    rate_hz: float | None = None
    latency_s: float = 0.0
    max_depth: float = 2.0

    def __post_init__(self) -> None:
        if self.picture not in ("depth", "rgb"):
            raise FermoError(f"a camera's picture is 'depth' or 'rgb', got {self.picture!r}")
        if (self.rate_hz is not None and not self.rate_hz > 0) or not self.latency_s >= 0 or not self.max_depth > 0:
            raise FermoError(f"rate_hz > 0, latency_s >= 0 and max_depth > 0 are needed, got {self}")

    def signal(self, name: str) -> Signal:
        """What the camera delivers, ``(height, width)`` [m] or ``(height, width, 3)``."""
        shape, unit, high = (self.height, self.width), "m", self.max_depth
        if self.picture == "rgb":
            shape, unit, high = (*shape, 3), "1", 1.0
        where = self.camera or "the first camera"
        return Signal.uniform(name=name, shape=shape, unit=unit, low=0.0, high=high, device="camera",
                              description=f"{self.picture} as seen by {where}")  # fmt: skip


class CameraSensor:
    """One camera in each of N worlds, a `Sensor`.

    Attributes:
        picture: Last delivered, shape ``(N, height, width)`` [m] or ``(N, height, width, 3)``, float32. A reset
            delivers one at once.

    Args:
        config: The device.
        control_rate_hz: How often `update` is called [Hz].
        num_worlds: N.
        device: Where the pictures live, the back end's.

    Raises:
        FermoError: `rate_hz` is no whole fraction of the control rate.
    """

    def __init__(self, config: CameraSensorConfig, control_rate_hz: float, num_worlds: int,
                 device: torch.device) -> None:  # fmt: skip
        self._config = config
        ratio = control_rate_hz / (config.rate_hz or control_rate_hz)
        self._every = round(ratio)  # control steps from picture to picture
        if self._every < 1 or not math.isclose(ratio, self._every, rel_tol=1e-6):
            choice = ", ".join(f"{control_rate_hz / n:g}" for n in range(1, 5))
            raise FermoError(f"rate_hz={config.rate_hz:g} does not divide the control rate: choose {choice}, ... Hz")
        self._delay = math.ceil(config.latency_s * control_rate_hz - 1e-9)  # control steps from capture to delivery
        # Pictures not yet replaced, by their number modulo `_kept`; the slot behind them takes what is not due.
        self._kept = math.ceil(self._delay / self._every) + 1
        shape = config.signal("picture").shape
        self._slots = torch.zeros(num_worlds, self._kept + 1, *shape, device=device)
        self.picture = torch.zeros(num_worlds, *shape, device=device)
        # A function and not the camera: what sensors keep is taken for their memory and followed (`Memory`).
        self._look: Callable[[Tensor], Tensor] | None = None

    def reset(self, mask: Tensor, sim: Simulation) -> None:
        """See `Sensor.reset`."""
        if self._look is None:
            self._look = self._open(sim)
        chosen = mask.view(-1, *[1] * (self.picture.ndim - 1))
        self.picture = torch.where(chosen, self._look(mask), self.picture)
        self._slots = torch.where(chosen[:, None], self.picture[:, None], self._slots)

    def update(self, sim: Simulation) -> None:
        """See `Sensor.update`."""
        assert self._look is not None, "a camera starts with the first reset"
        due = sim.steps % self._every == 0
        newest = torch.where(due, sim.steps // self._every % self._kept, self._kept)
        arrived = (sim.steps - self._delay).clamp(min=0) // self._every % self._kept
        self._slots.scatter_(1, self._index(newest), self._look(due)[:, None])
        self.picture = self._slots.gather(1, self._index(arrived))[:, 0]

    def _index(self, slot: Tensor) -> Tensor:
        return slot.view(-1, *[1] * self.picture.ndim).expand_as(self.picture[:, None])

    def _open(self, sim: Simulation) -> Callable[[Tensor], Tensor]:
        config = self._config
        camera = make_camera(sim.backend, config.camera, config.width, config.height)
        if config.picture == "rgb":
            return lambda mask: camera.rgb(mask).float() / 255.0
        return lambda mask: camera.depth_and_segmentation(mask)[0].clamp(max=config.max_depth)


def with_camera(task: TaskT, config: CameraSensorConfig | None = None, *, signal: str = "camera") -> TaskT:
    """`task` with a camera's picture as its last observation; all else is the task's own, and `task` is unchanged.

    The camera is also ``env.sim.sensors[signal]``, for whoever wants pictures and no flat observation.

    Args:
        task: What to do; a second camera may be added to what this returns.
        config: The camera.
        signal: Name of the observation.

    Raises:
        FermoError: The model has no such camera, or the picture no pixel.
    """
    config = config or CameraSensorConfig()
    find_camera(task.model, config.camera, config.width, config.height)
    seeing = copy.copy(task)
    seeing.spec = dataclasses.replace(task.spec, observations=(*task.spec.observations, config.signal(signal)))
    # A subclass of the task's own class: whatever the task defines or will define stays as it is.
    seeing.__class__ = _seeing_class(type(task), config, signal)
    return seeing


def _seeing_class(kind: type[Task], config: CameraSensorConfig, signal: str) -> type[Task]:
    def make_sensors(self: Task, num_worlds: int, device: torch.device) -> dict[str, Sensor]:
        camera = CameraSensor(config, self.spec.rate_hz, num_worlds, device)
        return {**kind.make_sensors(self, num_worlds, device), signal: camera}

    def observation(self: Task, sim: Simulation) -> dict[str, Tensor]:
        return {**kind.observation(self, sim), signal: sim.sensors[signal].picture}

    return type(kind.__name__, (kind,), {"make_sensors": make_sensors, "observation": observation})
