"""BlockPush: what is paid, what was achieved, and that blocks move as blocks on a table do."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fermo.envs.core.random import WorldRandom
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.tasks import block_push_metrics as metrics
from fermo.envs.tasks.block_push import START, BlockPush, BlockPushConfig
from fermo.errors import FermoError

IN_1, IN_2, OUT = (0.28, 0.2), (0.52, 0.2), (0.4, -0.2)
AWAY = (0.2, 0.45)
Point = tuple[float, float]


def make(worlds: int = 1, backend: str = "cpu", **config: Any) -> VectorEnv:
    options = {"device": "cpu"} if backend == "warp" else {"num_threads": 1}
    env = VectorEnv(BlockPush(BlockPushConfig(**config)), worlds, backend=backend, captured=False,
                    autoreset_mode=AutoresetMode.DISABLED, backend_options=options)  # fmt: skip
    env.reset(seed=0)
    return env


def put(env: VectorEnv, block_1: Point, block_2: Point, effector: Point = AWAY, yaw: float = 0.0) -> None:
    """Everything at rest at these places, the effector's target too."""
    task = env.task
    assert isinstance(task, BlockPush)
    qpos = torch.tensor(task.model.qpos0).repeat(env.num_envs, 1)
    for start, place in zip(task.blocks_qpos, (block_1, block_2), strict=True):
        pose = [*place, 0.02, math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)]
        qpos[:, start : start + 7] = torch.tensor(pose, dtype=torch.float64)
    qpos[:, task.effector_qpos : task.effector_qpos + 2] = torch.tensor(effector, dtype=torch.float64)
    everyone = torch.ones(env.num_envs, dtype=torch.bool)
    env.backend.reset(everyone, qpos.to(env.backend.dtype), torch.zeros_like(env.sim["qvel"]))
    env.backend.forward(everyone)
    env.sim.sensors["effector"].position = torch.tensor(effector, dtype=torch.float64).repeat(env.num_envs, 1)


def push(env: VectorEnv, steps: int, displacement: Point) -> list[Tensor]:
    """States after each of some equal actions."""
    states = []
    for _ in range(steps):
        env.step(torch.tensor([displacement]).repeat(env.num_envs, 1))
        states.append(env.sim["qpos"].clone())
    return states


def lean(qpos: Tensor, start: int) -> Tensor:
    """Angle of a block's axis from the vertical [rad]."""
    x, y = qpos[:, start + 4], qpos[:, start + 5]
    return torch.acos((1.0 - 2.0 * (x * x + y * y)).clamp(-1.0, 1.0))


@pytest.mark.parametrize("backend", ["cpu", "warp"])
def test_rewards_are_for_first_entries_and_for_both_at_once(backend: str) -> None:
    """A block that visits both targets earns twice; the last step of all pays 0.51 and nothing for the entry."""
    if backend == "warp":
        pytest.importorskip("mujoco_warp")
    env = make(backend=backend)
    env.sim.sensors["targets"].position = torch.tensor([[IN_1, IN_2]], dtype=torch.float64)
    story = [  # blocks, entered, placed
        (OUT, (0.3, -0.3), 0.0, 0.0),
        (IN_1, (0.3, -0.3), 0.49, 0.0),
        (IN_1, (0.3, -0.3), 0.0, 0.0),
        (OUT, (0.3, -0.3), 0.0, 0.0),
        (IN_1, (0.3, -0.3), 0.0, 0.0),
        (IN_2, (0.3, -0.3), 0.49, 0.0),
        (IN_2, IN_1, 0.0, 0.51),
    ]
    paid = 0.0
    for block_1, block_2, entered, placed in story:
        put(env, block_1, block_2)
        _, reward, terminated, _, info = env.step(torch.zeros(1, 2))
        terms = info["reward_terms"]
        assert (float(terms["entered"]), float(terms["placed"])) == pytest.approx((entered, placed))
        assert bool(terminated) == bool(info["success"]) == (placed > 0)
        paid += float(reward)
    assert paid == pytest.approx(2 * 0.49 + 0.51)
    assert env.sim.sensors["targets"].entries.tolist() == [[[2, 6], [7, 0]]]


def test_two_blocks_in_one_target_are_not_done() -> None:
    env = make()
    env.sim.sensors["targets"].position = torch.tensor([[IN_1, IN_2]], dtype=torch.float64)
    put(env, (0.255, 0.2), (0.305, 0.2))
    _, reward, terminated, _, _ = env.step(torch.zeros(1, 2))
    assert float(reward) == pytest.approx(0.98) and not terminated


@st.composite
def histories(draw: st.DrawFn) -> Tensor:
    """First entries of a few episodes: 0 or a step, no two the same."""
    rows = draw(st.lists(st.permutations(list(range(1, 9))), min_size=1, max_size=4))
    steps = torch.tensor([row[:4] for row in rows]).reshape(-1, 2, 2)
    never = torch.tensor(draw(st.lists(st.booleans(), min_size=4 * len(rows), max_size=4 * len(rows))))
    return steps.masked_fill(never.reshape(-1, 2, 2), 0)


@given(entries=histories())
def test_the_mode_is_the_pair_that_was_first(entries: Tensor) -> None:
    for found, table in zip(metrics.mode(entries).tolist(), entries.tolist(), strict=True):
        visits = sorted((table[b][t], 2 * b + t) for b in (0, 1) for t in (0, 1) if table[b][t])
        assert found == (visits[0][1] if visits else -1)


@given(entries=histories())
def test_renaming_blocks_and_targets_renames_the_modes_and_keeps_the_result(entries: Tensor) -> None:
    wanted = torch.eye(2, dtype=torch.bool).expand(len(entries), 2, 2)
    for axes, name in (((1,), lambda b, t: (1 - b, t)), ((2,), lambda b, t: (b, 1 - t)),
                       ((1, 2), lambda b, t: (1 - b, 1 - t))):  # fmt: skip
        renamed = entries.flip(axes)
        for before, after in zip(metrics.mode(entries).tolist(), metrics.mode(renamed).tolist(), strict=True):
            b, t = name(*divmod(before, 2))
            assert after == (2 * b + t if before >= 0 else -1)
        results = (metrics.result(metrics.achieved_pairs(table), pairs)
                   for table, pairs in ((entries, wanted), (renamed, wanted.flip(axes))))  # fmt: skip
        assert torch.equal(*results)


def test_results_count_the_wanted_pairs_in_any_order() -> None:
    entries = torch.tensor([[[3, 0], [0, 9]], [[9, 0], [0, 3]], [[3, 0], [0, 0]], [[0, 3], [9, 0]], [[3, 5], [7, 9]]])
    wanted = torch.eye(2, dtype=torch.bool).expand(5, 2, 2)
    assert metrics.result(metrics.achieved_pairs(entries), wanted).tolist() == [1.0, 1.0, 0.5, 0.0, 1.0]


def test_modes_and_assignments_are_inverse() -> None:
    first, target_of = metrics.assignment(torch.arange(4))
    assert first.tolist() == [0, 0, 1, 1]
    assert target_of.tolist() == [[0, 1], [1, 0], [1, 0], [0, 1]]
    assert torch.equal(2 * first + target_of.gather(1, first[:, None])[:, 0], torch.arange(4))


def test_entries_after_the_end_do_not_count() -> None:
    targets = torch.tensor([[IN_1, IN_2]], dtype=torch.float64).repeat(2, 1, 1)
    path = torch.tensor([[OUT, OUT], [IN_1, OUT], [IN_1, OUT], [IN_1, IN_2]], dtype=torch.float64)
    entries = metrics.first_entries(path.repeat(2, 1, 1, 1), targets, torch.tensor([3, 4]), 0.05)
    assert entries.tolist() == [[[2, 0], [0, 0]], [[2, 0], [0, 4]]]


def test_goals_ask_for_the_nearest_targets() -> None:
    targets = torch.tensor([[IN_2, IN_1]], dtype=torch.float64)
    goal = torch.tensor([[(0.31, 0.14), (0.5, 0.16)]], dtype=torch.float64)
    assert metrics.wanted_pairs(goal, targets).tolist() == [[[False, True], [True, False]]]
    assert metrics.mirrored(targets).tolist() == [True]


def test_what_remains_of_the_way_is_its_share_at_the_end() -> None:
    targets = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]], dtype=torch.float64)
    crossing = torch.tensor([[[False, True], [True, False]]])
    start = torch.tensor([[1.0, 2.0], [0.0, 2.0]], dtype=torch.float64)  # each two metres before its own
    halfway, away = start - torch.tensor([0.0, 1.0]), start + torch.tensor([0.0, 2.0])
    for end, share in ((start, 1.0), (halfway, 0.5), (away, 2.0), (targets[0].flip(0), 0.0)):
        path = torch.stack([start, end, away])[None]  # the last step is no part of the episode
        assert metrics.remaining(path, targets, crossing, torch.tensor([2])).tolist() == pytest.approx([share])


def test_episodes_start_where_the_benchmark_says() -> None:
    task = BlockPush()
    random = WorldRandom.first_episodes(0, 4000)
    qpos, qvel = task.initial_state(random)
    blocks, targets = task.block_positions(qpos), task.draw_targets(random)
    x, y = blocks.unbind(dim=2)
    assert ((x - 0.4).abs() <= 0.1).all() and ((y + 0.2).abs() <= 0.15).all()
    assert ((x[:, 0] - x[:, 1]).abs() >= 0.1).all()
    assert (x[:, 0] - 0.4).abs().max() > 0.099 and (y + 0.2).abs().max() > 0.149  # and they fill it
    assert (x[:, 0] > x[:, 1]).double().mean() == pytest.approx(0.5, abs=0.04)
    assert torch.equal(qpos[:, task.effector_qpos :], torch.tensor([START], dtype=torch.float64).expand(4000, 2))
    assert not qvel.any()
    left = targets.sort(dim=1).values  # x only decides, y is about the same
    assert ((left[:, :, 0] - torch.tensor([0.28, 0.52])).abs() <= 0.005).all()
    assert ((targets[:, :, 1] - 0.2).abs() <= 0.0075).all()
    assert metrics.mirrored(targets).double().mean() == pytest.approx(0.5, abs=0.04)


@settings(max_examples=30, deadline=None)
@given(action=st.tuples(*[st.floats(-1.0, 1.0)] * 2), at=st.tuples(st.floats(0.15, 0.7), st.floats(-0.5, 0.5)))
def test_the_target_moves_by_the_action_shortened_and_kept_in_the_workspace(action: Point, at: Point) -> None:
    task = BlockPush()
    effector = task.make_sensors(1, torch.device("cpu"))["effector"]
    effector.position = torch.tensor([at], dtype=torch.float64)  # type: ignore[attr-defined]
    moved = effector.move(torch.tensor([action], dtype=torch.float64))[0]  # type: ignore[attr-defined]
    length = math.hypot(*action)
    share = min(1.0, 0.035 / length) if length else 1.0
    expected = [min(max(p + share * a, low), high)
                for p, a, (low, high) in zip(at, action, ((0.15, 0.7), (-0.5, 0.5)), strict=True)]  # fmt: skip
    assert moved.tolist() == pytest.approx(expected, abs=1e-12)


def test_the_effector_follows_its_target_as_a_critically_damped_spring() -> None:
    """x'' = w^2 (target - x) - 2 w x' with w = 70/s, by implicit Euler steps of 2 ms."""
    env = make()
    put(env, (0.6, 0.4), (0.2, 0.4), effector=(0.4, -0.4))
    qpos = push(env, 1, (0.02, 0.0))[0]
    w, dt, x, v = 70.0, 0.002, 0.0, 0.0
    for _ in range(50):
        v = (v + dt * w**2 * (0.02 - x)) / (1.0 + 2.0 * w * dt)
        x += dt * v
    assert float(qpos[0, env.task.effector_qpos]) == pytest.approx(0.4 + x, abs=1e-8)  # type: ignore[attr-defined]
    assert x == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("yaw", [0.0, 0.1, -0.2])
def test_a_pushed_block_stays_upright_and_stops_where_it_is_left(yaw: float) -> None:
    env = make()
    put(env, (0.4, -0.2), (0.6, 0.4), effector=(0.4, -0.25), yaw=yaw)
    start = env.task.blocks_qpos[0]  # type: ignore[attr-defined]
    states = push(env, 20, (0.0, 0.01))
    assert max(float(lean(qpos, start)) for qpos in states) < math.radians(10.0)
    assert float(states[-1][0, start + 1]) > -0.1  # by 10 cm and more
    states = push(env, 30, (0.0, -0.01))
    drift = (states[-1] - states[4])[0, start : start + 3].abs().max()
    assert drift < 2e-4 and float(states[-1][0, start + 2]) == pytest.approx(0.02, abs=1e-3)


def test_a_sliding_block_is_stopped_by_the_tables_friction() -> None:
    """v^2 / (2 mu g) with mu = 1, from a start without contact of the pin."""
    env = make()
    put(env, (0.4, -0.2), (0.6, 0.4))
    start, speed = env.task.blocks_qpos[0], 0.6  # type: ignore[attr-defined]
    qvel = torch.zeros_like(env.sim["qvel"])
    qvel[0, 1] = speed
    env.backend.reset(torch.ones(1, dtype=torch.bool), env.sim["qpos"].clone(), qvel)
    slid = push(env, 5, (0.0, 0.0))[-1][0, start + 1] + 0.2
    assert float(slid) == pytest.approx(speed**2 / (2 * 9.81), rel=0.15)


@settings(max_examples=8, deadline=None)
@given(aside=st.floats(-0.012, 0.012), forward=st.floats(0.011, 0.014), yaw=st.floats(-0.3, 0.3))
def test_a_push_to_the_left_is_the_mirror_image_of_one_to_the_right(aside: float, forward: float, yaw: float) -> None:
    """For the first touch: what the solver leaves over grows when pushing goes on, an unstable affair."""
    ends = []
    for side in (1.0, -1.0):
        env = make()
        put(env, (0.4 + 0.05 * side, -0.2), (0.4 - 0.15 * side, 0.0), yaw=yaw * side,
            effector=(0.4 + (0.05 + aside) * side, -0.26))  # fmt: skip
        ends.append(env.task.block_positions(push(env, 4, (0.0, forward))[-1])[0])  # type: ignore[attr-defined]
    mirrored = torch.stack([0.8 - ends[1][:, 0], ends[1][:, 1]], dim=1)
    torch.testing.assert_close(ends[0], mirrored, atol=5e-5, rtol=0.0)
    assert float(ends[0][0, 1]) > -0.199


def test_targets_are_observed_on_request_only() -> None:
    assert BlockPush().spec.observation_size == 10
    env = make(observe_targets=True)
    obs, _ = env.reset(seed=1)
    seen = obs[0, -4:].double()
    torch.testing.assert_close(seen, env.sim.sensors["targets"].position.flatten(), atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("wrong", [{"tolerance": 0.0}, {"max_step": -0.1}, {"episode_s": math.inf}])
def test_configs_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(FermoError, match="must be positive"):
        BlockPushConfig(**wrong)
