"""rsl_rl over a batch: the same memory on the same device, time-outs told, commands inside their bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.errors import FermoError
from fermo.signal import Signal

pytest.importorskip("rsl_rl")
from fermo.envs.adapters.rsl_rl import RslRlVecEnv, command_range


def adapted(name: str = "SO101-Reach", num_envs: int = 3, **task: Any) -> RslRlVecEnv:
    env = VectorEnv(make_task(name, **task), num_envs, seed=5, autoreset_mode=AutoresetMode.SAME_STEP)
    return RslRlVecEnv(env)


def test_observations_are_the_environments_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    env = adapted()
    env.get_observations()
    seen, step = [], env.env.step
    monkeypatch.setattr(env.env, "step", lambda action: seen.append(step(action)) or seen[-1])
    obs, reward, done, extras = env.step(torch.zeros(3, 6))
    assert obs["policy"].data_ptr() == seen[0][0].data_ptr() and obs["policy"].dtype == torch.float32
    assert extras["final_observations"]["policy"].data_ptr() == seen[0][4]["final_obs"].data_ptr()
    assert (reward.shape, done.shape, extras["time_outs"].shape) == ((3,), (3,), (3,))


def test_nothing_passes_through_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    env = adapted(num_envs=2)
    env.get_observations()
    env.step(torch.zeros(2, 6))  # whatever is bound at first use is bound now

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a tensor went through NumPy")

    for name in ("from_numpy", "as_tensor"):
        real = getattr(torch, name)
        monkeypatch.setattr(torch, name, lambda x, *a, real=real, **k: refuse() if isinstance(x, np.ndarray)
                            else real(x, *a, **k))  # fmt: skip
    monkeypatch.setattr(torch.Tensor, "cpu", refuse)
    monkeypatch.setattr(torch.Tensor, "tolist", refuse)
    env.step(torch.zeros(2, 6))


def test_the_observation_before_outlives_the_step() -> None:
    env = adapted("Hopper")
    first = env.get_observations()["policy"]
    kept = first.clone()
    env.step(torch.ones(3, 3))
    assert torch.equal(first, kept)


def test_actions_are_half_ranges_of_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    env = adapted("InvertedPendulum")
    env.get_observations()
    given: list[torch.Tensor] = []
    step = env.env.step
    monkeypatch.setattr(env.env, "step", lambda action: given.append(action) or step(action))
    env.step(torch.tensor([[0.5], [-1.0], [7.0]]))
    torch.testing.assert_close(given[0], torch.tensor([[1.5], [-3.0], [3.0]]))


def test_time_outs_are_told_and_falls_are_not() -> None:
    clock, fall = adapted("Hopper", episode_steps=2), adapted("InvertedPendulum", episode_steps=500)
    for env in (clock, fall):
        env.get_observations()
    clock.step(torch.zeros(3, 3))
    _, _, done, extras = clock.step(torch.zeros(3, 3))
    assert done.tolist() == [1, 1, 1] and extras["time_outs"].all()
    ended = torch.zeros(3, dtype=torch.bool)
    for _ in range(60):
        _, _, done, extras = fall.step(torch.ones(3, 1))
        ended |= done.bool()
        assert not extras["time_outs"].any()
    assert ended.all()


def test_final_observations_are_those_before_the_reset() -> None:
    env = adapted("Hopper", episode_steps=2)
    env.get_observations()
    obs, *_ = env.step(torch.zeros(3, 3))
    obs, _, _, extras = env.step(torch.zeros(3, 3))
    height = slice(0, 1)
    assert (extras["final_observations"]["policy"][:, height] < obs["policy"][:, height] + 0.01).all()
    assert not torch.equal(extras["final_observations"]["policy"], obs["policy"])
    assert env.episode_length_buf.tolist() == [0, 0, 0]


def test_clocks_can_be_moved_apart() -> None:
    env = adapted("Hopper", episode_steps=10)
    env.get_observations()
    env.episode_length_buf = torch.tensor([9, 5, 0])
    assert env.step(torch.zeros(3, 3))[2].tolist() == [1, 0, 0]


def test_rewards_are_scaled() -> None:
    plain, scaled = adapted("Hopper"), adapted("Hopper")
    scaled.reward_scale = 0.1
    for env in (plain, scaled):
        env.get_observations()
    torch.testing.assert_close(0.1 * plain.step(torch.ones(3, 3))[1], scaled.step(torch.ones(3, 3))[1])


def test_what_cannot_be_learned_in_is_refused() -> None:
    with pytest.raises(FermoError, match="SAME_STEP"):
        RslRlVecEnv(VectorEnv(make_task("Hopper"), 2))
    with pytest.raises(FermoError, match="bounded commands, and torque"):
        command_range((Signal.uniform(name="torque", shape=(2,), unit="N m"),))
