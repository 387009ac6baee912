"""Computing chunks away from the loop: in a thread on the wall clock, or at once in simulated time."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for
from dataclasses import dataclass

import numpy as np
import torch

from fermo.errors import FermoError
from fermo.hardware.action_source import policy_input
from fermo.hardware.clock import Clock
from fermo.hardware.robot import RobotError
from fermo.policies.base import ChunkPolicy


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a chunk is computed from.

    Attributes:
        observation: The latest, ``(observation_size,)``, SI units.
        prefix: First actions of the chunk that are decided already, ``(d, command_size)``.
        done: What was seen and what was done since the request before, ``(observation, command)`` in order.
        first: Whether an episode begins.
    """

    observation: np.ndarray
    prefix: np.ndarray
    done: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
    first: bool = False


class ChunkPredictor:
    """All that is ever asked of the policy; whoever calls it is the only one who touches the policy's memory."""

    def __init__(self, policy: ChunkPolicy) -> None:
        self._policy = policy

    @torch.no_grad()
    def __call__(self, request: Request) -> np.ndarray:
        """A chunk, ``(H, command_size)`` float64. Raises what the policy does, and `FermoError` at NaN or infinity."""
        policy = self._policy
        if request.first:
            policy.reset()
        for observation, command in request.done:
            policy.remember(policy_input(policy, observation), policy_input(policy, command))
        prefix = policy_input(policy, request.prefix) if len(request.prefix) else None
        chunk = policy.predict_action_chunk(policy_input(policy, request.observation), prefix)
        if not chunk.isfinite().all():
            raise FermoError("it holds NaN or infinity")
        return chunk[0].double().cpu().numpy()


class Inference(ABC):
    """Computes one chunk at a time.

    Args:
        predict: Makes a chunk of a request.
        delay_s: Slept before each chunk is handed out, as if the policy were that much slower [s].
    """

    def __init__(self, predict: Callable[[Request], np.ndarray], *, delay_s: float = 0.0) -> None:
        if delay_s < 0:
            raise FermoError(f"an inference delay cannot be negative, got {delay_s:g} s")
        self._predict = predict
        self._delay_s = delay_s

    @abstractmethod
    def start(self, request: Request) -> None:
        """Begin a chunk; the one before must have been taken or discarded."""

    @abstractmethod
    def answer(self) -> np.ndarray | None:
        """The chunk if it is there; never waits. Raises `RobotError` with the reason when there will be none."""

    @abstractmethod
    def wait(self) -> np.ndarray:
        """The chunk, as soon as it is there. Raises `RobotError` likewise."""

    @abstractmethod
    def discard(self) -> None:
        """Forget the chunk that was begun, if any; returns when nothing is being computed any more."""

    def close(self) -> None:
        """Compute no more."""
        self.discard()


class BackgroundInference(Inference):
    """In a thread, so that the loop goes on meanwhile.

    A thread and not a process: torch lets go of the interpreter in its operations, the policy may live on a GPU, and
    the servos have a process of their own, which no policy delays.
    """

    def __init__(self, predict: Callable[[Request], np.ndarray], *, delay_s: float = 0.0) -> None:
        super().__init__(predict, delay_s=delay_s)
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="inference")
        self._future: Future[np.ndarray] | None = None

    def start(self, request: Request) -> None:
        """See `Inference`."""
        self._future = self._pool.submit(self._delayed, request)

    def answer(self) -> np.ndarray | None:
        """See `Inference`."""
        assert self._future is not None, "nothing was started"
        return self.wait() if self._future.done() else None

    def wait(self) -> np.ndarray:
        """See `Inference`."""
        assert self._future is not None, "nothing was started"
        future, self._future = self._future, None
        try:
            return future.result()
        except Exception as error:
            raise _failure(error) from error

    def discard(self) -> None:
        """See `Inference`."""
        if self._future is not None:
            wait_for([self._future])
            self._future = None

    def close(self) -> None:
        """See `Inference`."""
        super().close()
        self._pool.shutdown()

    def _delayed(self, request: Request) -> np.ndarray:
        chunk = self._predict(request)
        time.sleep(self._delay_s)
        return chunk


class LockstepInference(Inference):
    """In the caller's thread, with a delay of simulated time: what arrives when is the same on any machine.

    Args:
        predict: As of `Inference`.
        clock: Simulated time; waiting makes it pass.
        delay_s: As of `Inference`; the computation itself takes no simulated time.
    """

    def __init__(self, predict: Callable[[Request], np.ndarray], clock: Clock, *, delay_s: float = 0.0) -> None:
        super().__init__(predict, delay_s=delay_s)
        self._clock = clock
        self._ready_at = 0.0
        self._outcome: np.ndarray | Exception | None = None

    def start(self, request: Request) -> None:
        """See `Inference`."""
        self._ready_at = self._clock.now() + self._delay_s
        try:
            self._outcome = self._predict(request)
        except Exception as error:
            self._outcome = error

    def answer(self) -> np.ndarray | None:
        """See `Inference`."""
        assert self._outcome is not None, "nothing was started"
        if self._clock.now() < self._ready_at - 1e-9:
            return None
        outcome, self._outcome = self._outcome, None
        if isinstance(outcome, Exception):
            raise _failure(outcome) from outcome
        return outcome

    def wait(self) -> np.ndarray:
        """See `Inference`."""
        self._clock.sleep_until(self._ready_at)
        chunk = self.answer()
        assert chunk is not None
        return chunk

    def discard(self) -> None:
        """See `Inference`."""
        self._outcome = None


def _failure(error: Exception) -> RobotError:
    return RobotError(f"the policy failed to compute a chunk: {error or type(error).__name__}")
