"""Carries out one chunk of actions while the policy computes the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from fermo.errors import FermoError
from fermo.hardware.action_source import ActionSource, SelectedActions, flat_observation
from fermo.hardware.chunk_report import ChunkReport
from fermo.hardware.chunking import Chunking
from fermo.hardware.clock import Clock, WallClock
from fermo.hardware.inference import BackgroundInference, ChunkPredictor, Inference, LockstepInference, Request
from fermo.hardware.robot import Reading, Robot
from fermo.hardware.seams import HOLD
from fermo.policies.base import ChunkPolicy, Policy


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Actions to carry out in turn.

    Attributes:
        actions: Shape ``(L, command_size)``, L >= 1.
        origin: The chunk that each was decided in, or `HOLD`, shape ``(L,)``.
    """

    actions: np.ndarray
    origin: np.ndarray

    def upcoming(self, position: int, count: int) -> Plan:
        """The next `count` actions from `position` on; beyond the end the last one is held."""
        places = np.arange(position, position + count)
        last = len(self.actions) - 1
        inside = np.minimum(places, last)
        return Plan(actions=self.actions[inside], origin=np.where(places > last, HOLD, self.origin[inside]))


class ChunkedActions(ActionSource):
    """Actions from chunks that are computed beside the loop, which never waits for one.

    Where a chunk comes so late that the one before is at its end, its last action is held.

    Args:
        policy: Its chunks are carried out.
        chunking: How one gives way to the next.
        inference: Computes them, by the policy; nobody else may use the policy meanwhile.

    Raises:
        FermoError: The policy cannot do what the chunking needs.
    """

    report: ChunkReport

    def __init__(self, policy: ChunkPolicy, chunking: Chunking, inference: Inference) -> None:
        problem = policy.why_no_prefix() if chunking.needs_prefix else None
        if problem:
            raise FermoError(f"{chunking.name} chunking goes on from decided actions: {problem}")
        self.spec = policy.spec
        execute = chunking.executed(policy.horizon)
        self.report = ChunkReport(
            mode=chunking.name, horizon=policy.horizon, execute=execute, rate_hz=policy.spec.rate_hz
        )
        self._chunking, self._inference = chunking, inference
        self._plan = self._decided = _no_actions(self.spec.command_size)
        self._position = 0  # in the plan, of the next action
        self._asked = False  # whether a chunk is being computed
        self._consumed = 0  # actions carried out since it was asked for
        self._observation = np.zeros(self.spec.observation_size)
        self._done: list[tuple[np.ndarray, np.ndarray]] = []  # seen and done, and not yet told to the policy

    def begin(self, robot: Robot) -> None:
        """Wait for a first chunk; a first inference is slow, and says nothing of how long later ones take."""
        self._inference.discard()  # of an episode that has ended
        self._done, self._asked = [], False
        self._decided = _no_actions(self.spec.command_size)
        observation = flat_observation(self.spec, robot.read())
        self._inference.start(Request(observation=observation, prefix=self._decided.actions, first=True))
        self._take_up(self._inference.wait(), entry=0)
        self.report.begin_episode()

    def next_action(self, reading: Reading) -> np.ndarray:
        """See `ActionSource`: takes up a chunk that has arrived, and asks for the next one when it is time to."""
        self._observation = flat_observation(self.spec, reading)
        if self._asked:
            self._look_for_answer()
        left = len(self._plan.actions) - self._position
        if not self._asked and left <= self.report.horizon - self.report.execute:
            self._ask(max(0, left))
        return self._plan.upcoming(self._position, 1).actions[0]

    def carried_out(self, command: np.ndarray) -> None:
        """See `ActionSource`; the policy is told before it computes the next chunk."""
        self._done.append((self._observation, command))
        self.report.note(command, int(self._plan.upcoming(self._position, 1).origin[0]))
        self._position += 1
        self._consumed += 1

    def _ask(self, left: int) -> None:
        if not self._chunking.goes_on:
            self._plan = self._plan.upcoming(0, self._position)
        count = self._chunking.decided(self.report.delays, left, self.report.horizon)
        self._decided = self._plan.upcoming(self._position, count)
        self._inference.start(
            Request(observation=self._observation, prefix=self._decided.actions, done=tuple(self._done))
        )
        self._done, self._asked, self._consumed = [], True, 0

    def _look_for_answer(self) -> None:
        chunk = self._inference.answer()
        if chunk is None:
            return
        self._asked = False
        self.report.delays.append(self._consumed)
        self.report.late += self._chunking.needs_prefix and self._consumed > len(self._decided.actions)
        entry = self._chunking.entry(self._consumed)
        if entry < len(chunk):
            self._take_up(chunk, entry)
        else:
            self.report.dropped += 1

    def _take_up(self, chunk: np.ndarray, entry: int) -> None:
        own = np.full(len(chunk) - len(self._decided.actions), self.report.chunks)
        origin = np.concatenate([self._decided.origin, own])
        needed = (origin != HOLD) | (np.arange(len(chunk)) < entry)  # it came before these holds
        self._plan, self._position = Plan(actions=chunk[needed], origin=origin[needed]), entry
        self.report.chunks += 1


@contextmanager
def acting(policy: Policy, clock: Clock, chunking: Chunking | None = None, *,
           delay_s: float = 0.0) -> Iterator[ActionSource]:  # fmt: skip
    """What the loop asks: `policy` itself every period, or its chunks, computed in a thread while the loop goes on.

    Args:
        policy: What decides.
        clock: The loop's. Where it is not the wall clock, chunks are computed in simulated time.
        chunking: How one chunk gives way to the next; None asks for every action and waits for it.
        delay_s: Added to every inference of a chunk [s].

    Raises:
        FermoError: The policy has no chunks, or not those that the chunking needs.
    """
    if chunking is None:
        yield SelectedActions(policy)
        return
    if not isinstance(policy, ChunkPolicy) or policy.horizon < 2:
        raise FermoError(f"chunking needs a policy that predicts chunks of actions, and this {policy.family} predicts "
                         f"one action: train beso with --policy.chunk 24, or leave --chunking out")  # fmt: skip
    predict = ChunkPredictor(policy)
    wall = isinstance(clock, WallClock)
    inference = (BackgroundInference(predict, delay_s=delay_s) if wall
                 else LockstepInference(predict, clock, delay_s=delay_s))  # fmt: skip
    try:
        yield ChunkedActions(policy, chunking, inference)
    finally:
        inference.close()


def _no_actions(size: int) -> Plan:
    return Plan(actions=np.zeros((0, size)), origin=np.zeros(0, dtype=int))
