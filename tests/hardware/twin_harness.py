"""What the twin's tests share: one lockstep twin, put back in order before each use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fermo.assets.so101_plant import PICK_PLANT
from fermo.hardware.clock import LockstepClock
from fermo.hardware.drivers.so101 import So101, So101Config
from fermo.hardware.twins.supervisor import Twin
from fermo.policies.base import Policy
from fermo.signal import PlantSpec

TICK = 0.01


class Wave(Policy):
    """Swings every joint around the pose it first sees."""

    family = "wave"

    def __init__(self, spec: PlantSpec = PICK_PLANT) -> None:
        super().__init__(spec, None)
        self.reset()

    def reset(self, mask: Tensor | None = None) -> None:
        self.step, self.start = 0, None

    def predict_action_chunk(self, obs: Tensor) -> Tensor:
        if self.start is None:
            self.start = obs[:, :6].clone()
        self.step += 1
        return (self.start + 0.2 * np.sin(0.15 * self.step))[:, None]

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.zeros(()), {}


def config_of(twin: Twin, **changes: Any) -> So101Config:
    fields: dict[str, Any] = {
        "port": twin.port, "tracker": ("127.0.0.1", twin.tracker_port), "calibration": twin.calibration,
        "reply_timeout": 0.1, "leave": "hold",
    }  # fmt: skip
    return So101Config(**{**fields, **changes})


@contextmanager
def robot_on(twin: Twin, **changes: Any) -> Iterator[tuple[So101, LockstepClock]]:
    """A connected driver on a twin in good order, and its clock."""
    twin.supervisor.fault("clear")
    twin.supervisor.reset()
    twin.supervisor.step(0.02)  # the servos notice that all is well again
    clock = twin.clock()
    assert isinstance(clock, LockstepClock)
    robot = So101(config_of(twin, **changes), clock)
    with robot:
        yield robot, clock
