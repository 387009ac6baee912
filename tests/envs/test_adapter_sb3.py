"""Stable-Baselines3 over a batch: what its own DummyVecEnv of Gymnasium's environments gives, and its own tools."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from fermo.envs.core.random import WorldRandom
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.errors import FermoError

pytest.importorskip("stable_baselines3")
from stable_baselines3 import PPO, SAC, TD3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecNormalize

from fermo.envs.adapters.sb3 import Sb3VecEnv


def adapted(name: str, num_envs: int = 3, seed: int = 5, **task: Any) -> Any:
    return Sb3VecEnv(VectorEnv(make_task(name, **task), num_envs, seed=seed, autoreset_mode=AutoresetMode.SAME_STEP))


def gymnasium_with_our_starts(name: str, env: VectorEnv, max_steps: int) -> Any:
    """Gymnasium's own environments, each episode of which starts where ours does."""

    def make(world: int) -> gymnasium.Env:
        made = gymnasium.make(name, max_episode_steps=max_steps)
        engine: Any = made.unwrapped
        engine.episode = -1

        def reset_model() -> np.ndarray:
            engine.episode += 1
            random = WorldRandom(env.seed, torch.tensor([world]), torch.tensor([engine.episode]))
            qpos, qvel = env.task.initial_state(random)
            engine.set_state(qpos[0].numpy(), qvel[0].numpy())
            return engine._get_obs()

        engine.reset_model = reset_model
        return Monitor(made)

    return DummyVecEnv([lambda world=world: make(world) for world in range(env.num_envs)])


@pytest.mark.parametrize("name", ["Hopper-v5", "HalfCheetah-v5", "Ant-v5"])
def test_same_actions_give_what_dummy_vec_env_of_gymnasium_gives(name: str) -> None:
    max_steps = 30
    ours = adapted(f"fermo/{name}", episode_steps=max_steps)
    theirs = gymnasium_with_our_starts(name, ours.env, max_steps)
    np.testing.assert_array_equal(ours.reset(), theirs.reset())
    rng, finished = np.random.default_rng(0), 0
    for _ in range(70):
        actions = rng.uniform(-1, 1, size=(3, *ours.action_space.shape)).astype(np.float32)
        (obs, reward, done, infos), expected = ours.step(actions), theirs.step(actions)
        np.testing.assert_array_equal(obs, expected[0])
        np.testing.assert_array_equal(reward, expected[1])
        np.testing.assert_array_equal(done, expected[2])
        assert reward.dtype == expected[1].dtype and obs.dtype == expected[0].dtype
        for world in np.flatnonzero(done):
            finished += 1
            info, other = infos[world], expected[3][world]
            np.testing.assert_array_equal(info["terminal_observation"], other["terminal_observation"])
            assert info["TimeLimit.truncated"] == other["TimeLimit.truncated"]
            assert info["episode"]["l"] == other["episode"]["l"]
            assert info["episode"]["r"] == pytest.approx(other["episode"]["r"], abs=1e-6)  # a Monitor rounds
    assert finished >= 6


def test_what_was_returned_is_not_written_again() -> None:
    env = adapted("fermo/Hopper-v5")
    first = env.reset()
    kept, action = first.copy(), np.zeros((3, 3), dtype=np.float32)
    second, *_ = env.step(action)
    kept_second = second.copy()
    env.step(action)
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(second, kept_second)


def test_one_copy_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every transfer to the host is one call of `Tensor.cpu`, and the actions reach the batch in one tensor."""
    env = adapted("fermo/SO101-Reach-v0")
    env.reset()
    calls, cpu = [], torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self, *a, **k: calls.append(self.shape) or cpu(self, *a, **k))
    action = np.zeros((3, 6), dtype=np.float32)
    assert torch.from_numpy(action).data_ptr() == action.ctypes.data
    env.step(action)
    size = env.observation_space.shape[0]
    assert calls.count((3, 2 * size + 4)) == 1 and len(calls) == 1


def test_a_seed_repeats_and_reset_ends_the_episodes() -> None:
    env = adapted("fermo/SO101-Reach-v0")
    env.seed(11)
    first = env.reset()
    assert not np.array_equal(env.reset(), first)
    env.seed(11)
    np.testing.assert_array_equal(env.reset(), first)


def test_success_is_told_at_the_end() -> None:
    env = adapted("fermo/SO101-Reach-v0", episode_s=0.08, tolerance=10.0)
    env.reset()
    env.step(np.zeros((3, 6), dtype=np.float32))
    *_, done, infos = env.step(np.zeros((3, 6), dtype=np.float32))
    assert done.all() and all(info["is_success"] and info["TimeLimit.truncated"] for info in infos)


@pytest.mark.parametrize("algorithm", [PPO, SAC, TD3])
def test_their_learners_wrappers_and_evaluation_accept_it(algorithm: Any) -> None:
    env: Any = VecNormalize(VecCheckNan(adapted("fermo/InvertedPendulum-v5"), raise_exception=True))
    sizes: dict[str, Any] = {"n_steps": 8, "batch_size": 8} if algorithm is PPO else {"learning_starts": 8}
    model = algorithm("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, seed=0, device="cpu", **sizes)
    model.learn(48)
    assert model.num_timesteps == 48 and model.ep_info_buffer
    env.training = False
    mean, _ = evaluate_policy(model, env, n_eval_episodes=3)
    assert np.isfinite(mean)


def test_attributes_belong_to_the_batch() -> None:
    env = adapted("fermo/InvertedPendulum-v5")
    assert env.get_attr("num_envs") == [3, 3, 3] and env.get_attr("num_envs", [1]) == [3]
    env.set_attr("note", "kept")
    assert env.has_attr("note") and not env.has_attr("no_such_attribute")
    assert env.env_is_wrapped(Monitor) == [True] * 3 and env.env_is_wrapped(gymnasium.wrappers.TimeLimit, 0) == [False]
    with pytest.raises(FermoError, match="whole batch"):
        env.set_attr("note", "changed", indices=[0])
    with pytest.raises(FermoError, match="SAME_STEP"):
        Sb3VecEnv(VectorEnv(make_task("InvertedPendulum"), 2))
