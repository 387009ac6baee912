"""What the real-time loop asks for its next action."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch

from fermo.hardware.chunk_report import ChunkReport
from fermo.hardware.robot import Reading, Robot
from fermo.policies.base import Policy
from fermo.signal import PlantSpec


class ActionSource(ABC):
    """One action a period, asked for and carried out in turn.

    Attributes:
        spec: Which signals it reads, and how often it is asked.
        report: What became of its chunks; None where it has none.
    """

    spec: PlantSpec
    report: ChunkReport | None = None

    @abstractmethod
    def begin(self, robot: Robot) -> None:
        """An episode begins on `robot`, which is armed and holds; may take its time. Raises `RobotError`."""

    @abstractmethod
    def next_action(self, reading: Reading) -> np.ndarray:
        """The action of this period, ``(command_size,)`` float64, SI units. Raises `RobotError` where there is none."""

    @abstractmethod
    def carried_out(self, command: np.ndarray) -> None:
        """Take note of what became of that action after every limit, ``(command_size,)``."""


class SelectedActions(ActionSource):
    """A policy that is asked for an action every period, and waited for."""

    def __init__(self, policy: Policy) -> None:
        self.spec = policy.spec
        self._policy = policy

    def begin(self, robot: Robot) -> None:
        """Let the policy forget."""
        self._policy.reset()

    def next_action(self, reading: Reading) -> np.ndarray:
        """The policy's answer to the reading."""
        obs = policy_input(self._policy, flat_observation(self.spec, reading))
        with torch.no_grad():
            return self._policy.select_action(obs)[0].double().cpu().numpy()

    def carried_out(self, command: np.ndarray) -> None:
        """Nothing: a policy that selects actions remembers its own answers."""


def action_source(policy: Policy | ActionSource) -> ActionSource:
    """A policy that is to be asked every period as what the loop asks; what is that already, as it is."""
    return SelectedActions(policy) if isinstance(policy, Policy) else policy


def flat_observation(spec: PlantSpec, reading: Reading) -> np.ndarray:
    """What a policy reads of one reading, ``(observation_size,)``, SI units."""
    return np.concatenate([reading.signals[signal.name].ravel() for signal in spec.observations])


def policy_input(policy: Policy, values: np.ndarray) -> torch.Tensor:
    """Values of one world as a batch of one, in the precision and on the device of the policy's weights."""
    parameter = next(policy.parameters(), torch.zeros(0))
    return torch.as_tensor(values, dtype=parameter.dtype, device=parameter.device)[None]
