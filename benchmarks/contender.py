"""What a contender is: something that steps worlds of a task under the actions everybody gets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

ACTION_BATCHES = 16  # enough that no contender settles into a cycle of one action, few enough to fit a cache


@dataclass(frozen=True, kw_only=True)
class Case:
    """One cell of a comparison.

    Attributes:
        task: Name in fermo's registry.
        num_envs: N, how many worlds are asked for.
        threads: Processors the contender is pinned to, and threads or processes it may use on them.
        backend: ``"cpu"`` for MuJoCo on threads, ``"warp"`` for MuJoCo Warp.
        device: Where the worlds live, ``"cpu"`` or a CUDA device.
        seed: Of the actions and the starts.
        trace_file: The recorded `Trace` that bare engines go through.
        model_file: The task's MJCF, for peers that know no task but a model; empty where there is no single file.
        substeps: Physics steps of one environment step.
        nconmax: Contacts a world that a warp engine makes room for.
        njmax: Constraint rows that it makes room for in each world.
    """

    task: str
    num_envs: int
    threads: int
    backend: str = "cpu"
    device: str = "cpu"
    seed: int = 0
    trace_file: str = ""
    model_file: str = ""
    substeps: int = 1
    nconmax: int = 0
    njmax: int = 0

    @property
    def gymnasium_id(self) -> str:
        """The id of the same task in Gymnasium, ``"Ant-v5"`` for ``"fermo/Ant-v5"``."""
        return self.task.removeprefix("fermo/")

    def actions(self, low: np.ndarray, high: np.ndarray, num_envs: int | None = None) -> np.ndarray:
        """Uniform actions within the bounds ``(nu,)``, the same for everybody: ``(ACTION_BATCHES, N, nu)`` float32."""
        shape = (ACTION_BATCHES, num_envs or self.num_envs, len(low))
        drawn = np.random.default_rng(self.seed).random(shape, dtype=np.float32)
        return (low + (high - low) * drawn).astype(np.float32)


class NotForThisCaseError(Exception):
    """The contender has no such task, or cannot run on such a device; the message says which."""


class Contender(ABC):
    """Alone in its process: `prepare` and `make` once, then `step` over and over.

    Attributes:
        case: What is compared.
        note: What a reader must know of how it ran, for example how many processes; known after `make`.
    """

    note: str = ""

    def __init__(self, case: Case) -> None:
        self.case = case

    @abstractmethod
    def prepare(self) -> None:
        """Get ready what is fed to the worlds, which does not count as their memory.

        Raises:
            NotForThisCaseError: There is nothing to compare.
        """

    @abstractmethod
    def make(self) -> int:
        """Build the worlds and begin their episodes; returns how many environment steps one `step` makes."""

    @abstractmethod
    def step(self) -> None:
        """Step every world once, restarting those whose episode is over."""

    def finish(self) -> None:  # noqa: B027  most contenders have nothing to wait for
        """Wait until every step asked for is done, on a device that works on its own."""

    def close(self) -> None:  # noqa: B027  most contenders end with their process
        """End processes of one's own."""
