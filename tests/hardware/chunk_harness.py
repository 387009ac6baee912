"""What the tests of chunked actions share: a policy and a robot that remember all, and inferences of set length."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from fermo.hardware.clock import LockstepClock
from fermo.hardware.inference import LockstepInference, Request
from fermo.hardware.robot import Applied, Reading, Robot, RobotState
from fermo.policies.base import ChunkPolicy
from fermo.signal import PlantSpec, Signal

SPEC = PlantSpec(
    observations=(Signal.uniform(name="joint_position", shape=(1,), unit="rad"),),
    commands=(Signal.uniform(name="joint_target", shape=(1,), unit="rad", low=-1e6, high=1e6),),
    rate_hz=25.0,
)
HORIZON = 8


class Diary(ChunkPolicy):
    """Chunk n is ``1000 n, 1000 n + 1, ...`` but for its prefix, so that every action says where it comes from."""

    family = "diary"
    horizon = HORIZON

    def __init__(self, *, fails_at: int | None = None, gives: float | None = None) -> None:
        super().__init__(SPEC, None)
        self.asked: list[tuple[float, list[float]]] = []  # observation and prefix of each chunk
        self.remembered: list[tuple[float, float]] = []
        self.fails_at, self.gives = fails_at, gives

    def reset(self, mask: Tensor | None = None) -> None:
        self.remembered.clear()

    def remember(self, obs: Tensor, action: Tensor) -> None:
        self.remembered.append((obs.item(), action.item()))

    def predict_action_chunk(self, obs: Tensor, prefix: Tensor | None = None) -> Tensor:
        number = len(self.asked)
        if number == self.fails_at:
            if self.gives is None:
                raise ArithmeticError("the network is broken")
            return torch.full((1, HORIZON, 1), self.gives)
        decided = torch.zeros(1, 0, 1) if prefix is None else prefix
        self.asked.append((obs.item(), decided.flatten().tolist()))
        chunk = 1000.0 * number + torch.arange(HORIZON)[None, :, None]
        return torch.cat([decided, chunk[:, decided.shape[1] :]], dim=1)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        return torch.zeros(()), {}


class Recorder(Robot):
    """A robot whose n-th reading is n and that keeps what it was told; above `limit` a command is cut."""

    def __init__(self, limit: float = 1e6) -> None:
        self.spec, self.limit = SPEC, limit
        self.state = RobotState.CONNECTED
        self.reads = 0
        self.commands: list[float] = []

    def read(self) -> Reading:
        self.reads += 1
        return Reading(stamp=0.0, signals={"joint_position": np.array([float(self.reads)])}, sequence=self.reads)

    def write(self, command: np.ndarray) -> Applied:
        sent = np.minimum(command, self.limit)
        self.commands.append(float(sent[0]))
        return Applied(command=sent, clipped=sent != command, reason="limits" if (sent != command).any() else "")

    def arm(self) -> None:
        self.state = RobotState.ARMED

    def stop(self) -> None:
        self.state = RobotState.HOLD

    def connect(self) -> None:
        self.state = RobotState.CONNECTED

    def fault(self, reason: str) -> None:
        self.state = RobotState.FAULT

    def acknowledge(self) -> None:
        self.state = RobotState.CONNECTED

    def disconnect(self) -> None:
        self.state = RobotState.OFF


class CountedInference(LockstepInference):
    """Chunk n is there as soon as ``periods[n]`` actions were carried out after it was asked for."""

    def __init__(self, predict, clock: LockstepClock, periods: Iterable[int]) -> None:
        super().__init__(predict, clock)
        self._periods = iter(periods)

    def start(self, request: Request) -> None:
        self._delay_s = next(self._periods) / SPEC.rate_hz
        super().start(request)


def lockstep_clock() -> LockstepClock:
    """Simulated time that passes when it is slept."""
    time = 0.0

    def advance(seconds: float) -> float:
        nonlocal time
        time += seconds
        return time

    return LockstepClock(advance)
