"""Chunks carried out while the next one is computed, in simulated time and in a thread that tests hold by the hand."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fermo.errors import FermoError
from fermo.hardware.chunked import ChunkedActions, acting
from fermo.hardware.chunking import Chunking, NaiveSwitching, RealTimeChunking, Synchronous, make_chunking
from fermo.hardware.clock import WallClock
from fermo.hardware.inference import BackgroundInference, ChunkPredictor
from fermo.hardware.loop import run_policy
from fermo.hardware.robot import RobotError, RobotState
from fermo.hardware.seams import HOLD
from tests.hardware.chunk_harness import HORIZON, CountedInference, Diary, Recorder, lockstep_clock
from tests.policies.plants import fitted_policy


def run(chunking: Chunking, delays: Any, *, steps: int = 40, robot: Recorder | None = None,
        policy: Diary | None = None) -> tuple[ChunkedActions, Diary, Recorder]:  # fmt: skip
    """Carry out `steps` actions where chunk n takes as many periods as `delays` says of it."""
    policy, robot, clock = policy or Diary(), robot or Recorder(), lockstep_clock()
    source = ChunkedActions(policy, chunking, CountedInference(ChunkPredictor(policy), clock, delays))
    run_policy(robot, source, clock=clock, steps=steps)
    return source, policy, robot


def test_a_real_time_chunk_begins_with_what_was_carried_out_while_it_was_computed():
    source, policy, robot = run(RealTimeChunking(execute=4), itertools.repeat(2), steps=12)
    # Before a delay is known, all four that are left are decided; then the two that a chunk takes.
    assert policy.asked == [(1, []), (6, [4, 5, 6, 7]), (10, [1004, 1005]), (14, [2004, 2005])][: len(policy.asked)]
    assert robot.commands == [0, 1, 2, 3, 4, 5, 6, 7, 1004, 1005, 2002, 2003]
    assert source.report.delays == [2] * len(source.report.delays) and source.report.holds == source.report.late == 0


@settings(max_examples=60, deadline=None)
@given(
    delays=st.lists(st.integers(1, 20), min_size=60, max_size=60),
    execute=st.integers(1, HORIZON - 1),
    kind=st.sampled_from([RealTimeChunking, NaiveSwitching, Synchronous]),
)
def test_whatever_the_delays_every_period_has_its_action_and_the_policy_knows_what_was_done(
    delays: list[int], execute: int, kind: type[Chunking]
):
    source, policy, robot = run(kind(execute=execute), [0, *delays], steps=50)
    report, commands = source.report, robot.commands
    (origins,) = report.origins
    assert len(commands) == len(origins) == 50 and report.delays == delays[: len(report.delays)]
    assert [command.item() for command in report.commands[0]] == commands
    asked_in = [int(observation) - 2 for observation, _ in policy.asked]  # reading 1 is that before the loop
    taken_up = [0, *(n for n, delay in enumerate(report.delays, start=1) if delay < HORIZON or kind is Synchronous)]
    told = policy.remembered  # of the reading and the command of each period, in order, up to the last request
    assert told == [(2.0 + period, commands[period]) for period in range(len(told))]
    for (before, action), (origin, command) in itertools.pairwise(zip(origins, commands, strict=True)):
        if origin == HOLD:
            assert command == action  # never zeros
        else:
            assert command // 1000 == taken_up[origin]  # who decided it
        assert before <= origin or HOLD in (before, origin)
    assert report.holds == origins.count(HOLD)
    for period, delay, (_, prefix) in zip(asked_in[1:], report.delays, policy.asked[1:], strict=False):
        shared = min(delay, len(prefix))
        if kind is RealTimeChunking:
            assert commands[period : period + shared] == prefix[:shared]
            assert 1 <= len(prefix) <= HORIZON - 1
        else:
            assert prefix == []
    if kind is RealTimeChunking:
        late = [delay > len(prefix) for delay, (_, prefix) in zip(report.delays, policy.asked[1:], strict=False)]
        assert report.late == sum(late)
    assert report.dropped == (sum(delay >= HORIZON for delay in report.delays) if kind is not Synchronous else 0)


def test_naive_switching_jumps_to_the_action_meant_for_now_and_synchronous_waits_and_begins_at_the_first():
    _, _, robot = run(NaiveSwitching(execute=4), itertools.repeat(2), steps=9)
    assert robot.commands == [0, 1, 2, 3, 4, 5, 1002, 1003, 1004]
    source, policy, robot = run(Synchronous(execute=4), itertools.repeat(2), steps=9)
    assert robot.commands == [0, 1, 2, 3, 3, 3, 1000, 1001, 1002]
    assert source.report.holds == 2 and all(prefix == [] for _, prefix in policy.asked)


def test_a_late_chunk_is_waited_for_holding_and_the_report_says_so():
    source, policy, robot = run(RealTimeChunking(execute=4), [0, 6, 1, 1, 1, 1], steps=16)
    assert robot.commands[:11] == [0, 1, 2, 3, 4, 5, 6, 7, 7, 7, 1006]
    told = source.report.summary()
    assert (told["holds"], told["late"], told["dropped"], told["delay_actions"]["max"]) == (2, 1, 0, 6)
    # The next one is told to begin with six: the two that are left, and holds; it comes before they are needed.
    assert policy.asked[2][1] == [1006, 1007, 1007, 1007, 1007, 1007]
    assert robot.commands[10:14] == [1006, 1007, 2006, 2007]


def test_a_chunk_that_is_all_past_when_it_comes_is_dropped_and_the_robot_stays_where_it_is():
    source, _, robot = run(RealTimeChunking(execute=4), [0] + [HORIZON + 3] * 9, steps=60)
    assert robot.commands == [0, 1, 2, 3, 4, 5, 6] + [7] * 53
    assert source.report.dropped == len(source.report.delays) == 5 and source.report.chunks == 1


def test_the_policy_remembers_what_the_limits_left_of_its_actions():
    source, policy, robot = run(NaiveSwitching(execute=4), itertools.repeat(1), robot=Recorder(limit=1000.5), steps=20)
    assert max(command for _, command in policy.remembered) == 1000.5 == max(robot.commands)
    assert source.report.commands[0][-1] == 1000.5


def test_an_episode_begins_anew_and_waits_for_its_first_chunk_outside_the_loop():
    policy, robot, clock = Diary(), Recorder(), lockstep_clock()
    inference = CountedInference(ChunkPredictor(policy), clock, [5, 3, 5, 3])
    source = ChunkedActions(policy, RealTimeChunking(execute=4), inference)
    report = run_policy(robot, source, clock=clock, steps=6)  # ends while a chunk is computed
    assert report.start[0] == pytest.approx(5 / 25) and source.report.delays == []
    run_policy(robot, source, clock=clock, steps=6)
    assert robot.commands[6:] == [2000, 2001, 2002, 2003, 2004, 2005] and len(policy.remembered) == 4
    assert [len(commands) for commands in source.report.commands] == [6, 6]
    assert json.loads(json.dumps(source.report.summary()))["chunks"] == 2


@pytest.mark.parametrize(("gives", "reason"), [(None, "the network is broken"), (np.nan, "NaN or infinity")])
@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_policy_that_fails_stops_the_robot_with_the_reason(gives: float | None, reason: str, fails_at: int):
    robot = Recorder()
    with pytest.raises(RobotError, match=f"failed to compute a chunk: .*{reason}"):
        run(RealTimeChunking(), itertools.repeat(2), robot=robot, policy=Diary(fails_at=fails_at, gives=gives))
    assert robot.state is RobotState.HOLD and len(robot.commands) == (6 if fails_at else 0)


class Gated(Diary):
    """Computes a chunk once the test lets it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.gate = threading.Semaphore(1)  # the first chunk is waited for

    def predict_action_chunk(self, obs, prefix=None):
        assert self.gate.acquire(timeout=60), "nobody let the policy compute"
        return super().predict_action_chunk(obs, prefix)


def test_the_thread_computes_while_the_loop_goes_on_and_what_it_raises_arrives():
    policy, robot = Gated(fails_at=2), Recorder()
    with acting(policy, WallClock(), NaiveSwitching(execute=4)) as source:
        assert isinstance(source, ChunkedActions) and isinstance(source._inference, BackgroundInference)
        source.begin(robot)

        def step() -> float:
            action = source.next_action(robot.read())
            source.carried_out(robot.write(action).command)
            return action.item()

        assert [step() for _ in range(6)] == [0, 1, 2, 3, 4, 5]  # the policy computes since the fifth
        policy.gate.release()
        source._inference._future.exception(timeout=60)  # type: ignore[union-attr]
        assert [step() for _ in range(2)] == [1002, 1003] and source.report.delays == [2]
        step()
        policy.gate.release()
        source._inference._future.exception(timeout=60)  # type: ignore[union-attr]
        with pytest.raises(RobotError, match="the network is broken"):
            step()


def test_leaving_waits_for_the_thread_so_that_nobody_uses_the_policy_afterwards():
    policy, robot = Gated(), Recorder()
    with acting(policy, WallClock(), NaiveSwitching(execute=1), delay_s=0.001) as source:
        source.begin(robot)
        for _ in range(2):
            source.carried_out(source.next_action(robot.read()))
        assert len(policy.asked) == 1
        policy.gate.release()
    assert len(policy.asked) == 2 and not any(t.name.startswith("inference") for t in threading.enumerate())


def test_a_policy_without_chunks_is_asked_every_period_as_ever_and_refused_where_it_should_chunk():
    policy = fitted_policy("mlp_bc")
    with acting(policy, WallClock()) as source:
        assert source.report is None
    with pytest.raises(FermoError, match="this mlp_bc predicts one action"), acting(
        policy, WallClock(), NaiveSwitching()
    ):
        pass


def test_a_policy_that_takes_no_prefix_may_switch_naively_but_not_in_real_time():
    policy = fitted_policy("beso", chunk=4, noise_levels="shared")
    with acting(policy, WallClock(), NaiveSwitching()):
        pass
    with pytest.raises(FermoError, match=r"decided actions: .* noise_levels prefix or streaming"), acting(
        policy, WallClock(), RealTimeChunking()
    ):
        pass


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: NaiveSwitching(execute=0), "at least 1 action"),
        (lambda: RealTimeChunking(recall=0), "at least 1 delay"),
        (lambda: RealTimeChunking(execute=8).executed(8), "at most 7 actions of this policy's chunks of 8"),
        (lambda: make_chunking("realtime"), "did you mean 'real-time'"),
        (lambda: BackgroundInference(lambda request: request.prefix, delay_s=-1.0), "cannot be negative"),
    ],
)
def test_settings_that_mean_nothing_are_refused(make: Any, problem: str):
    with pytest.raises(FermoError, match=problem):
        make()
    assert Synchronous(execute=8).executed(8) == 8 and RealTimeChunking().executed(9) == 4
