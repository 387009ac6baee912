"""The vector environment against a plain loop over single worlds."""

import mujoco
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from fermo.envs.core.backend import BackendError
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.envs.tasks.gymnasium.planar_walker import Hopper
from fermo.errors import FermoError

STEPS, NUM, SEED, EPISODE = 40, 5, 17, 12


def pendulum():
    """Short episodes that end both ways: by falling and by the clock."""
    return make_task("InvertedPendulum-v5", reset_noise_scale=0.1, episode_steps=EPISODE)


def actions(num=NUM, width=1, scale=1.0, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).uniform(-scale, scale, (STEPS, num, width)))


class PlainWorld:
    """One world of the pendulum with nothing but MuJoCo."""

    def __init__(self, world, seed):
        self.task, self.world, self.seed, self.episode = pendulum(), world, seed, -1
        self.data = mujoco.MjData(self.task.model)

    def reset(self):
        self.episode += 1
        self.count = 0
        random = WorldRandom(self.seed, torch.tensor([self.world]), torch.tensor([self.episode]))
        mujoco.mj_resetData(self.task.model, self.data)
        self.data.qpos[:], self.data.qvel[:] = (part[0].numpy() for part in self.task.initial_state(random))
        mujoco.mj_forward(self.task.model, self.data)
        return self.observe()

    def observe(self):
        return np.concatenate([self.data.qpos, self.data.qvel])

    def step(self, action):
        self.data.ctrl[:] = action
        mujoco.mj_step(self.task.model, self.data, self.task.substeps)
        self.count += 1
        fell = bool(abs(self.data.qpos[1]) > 0.2)
        return self.observe(), float(not fell), fell, self.count >= EPISODE


def plain(mode, world):
    """What a world should return, written as a loop: (obs, reward, terminated, truncated, final_obs) per step."""
    env = PlainWorld(world, SEED)
    rows: list[tuple] = [(env.reset(), 0.0, False, False, None)]
    done = False
    for action in actions()[:, world].numpy():
        if done and mode == AutoresetMode.NEXT_STEP:
            rows.append((env.reset(), 0.0, False, False, None))
            done = False
            continue
        obs, reward, terminated, truncated = env.step(action)
        done, final = terminated or truncated, None
        if done and mode == AutoresetMode.SAME_STEP:
            final, obs = obs, env.reset()
        rows.append((obs, reward, terminated, truncated, final))
        if done and mode == AutoresetMode.DISABLED:
            rows.append((env.reset(), 0.0, False, False, None))
    return rows


def batched(mode, worlds, **options):
    """The same rows from the vector environment, one list for each world."""
    env = VectorEnv(pendulum(), len(worlds), seed=SEED, autoreset_mode=mode, worlds=torch.as_tensor(worlds), **options)
    start, _ = env.reset()
    rows = [[(start[k].numpy(), 0.0, False, False, None)] for k in range(len(worlds))]
    for action in actions()[:, worlds]:
        obs, reward, terminated, truncated, info = env.step(action)
        for k, row in enumerate(rows):
            final = info["final_obs"][k].numpy() if "_final_obs" in info and info["_final_obs"][k] else None
            row.append((obs[k].numpy(), float(reward[k]), bool(terminated[k]), bool(truncated[k]), final))
        done = terminated | truncated
        if mode == AutoresetMode.DISABLED and done.any():
            obs, _ = env.reset(options={"reset_mask": done.numpy()})
            for k in torch.nonzero(done).flatten().tolist():
                rows[k].append((obs[k].numpy(), 0.0, False, False, None))
    return rows


def assert_equal(ours, reference):
    assert len(ours) == len(reference)
    for mine, theirs in zip(ours, reference, strict=True):
        assert mine[1:4] == theirs[1:4]
        np.testing.assert_array_equal(mine[0], theirs[0])
        assert (mine[4] is None) == (theirs[4] is None)
        if mine[4] is not None:
            np.testing.assert_array_equal(mine[4], theirs[4])


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.name)
def test_each_world_is_a_plain_loop(mode):
    ours = batched(mode, list(range(NUM)))
    assert any(row[2] for world in ours for row in world)
    assert any(row[3] for world in ours for row in world)
    for world in range(NUM):
        assert_equal(ours[world], plain(mode, world))


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.name)
def test_a_batch_may_be_split_over_processes_and_threads(mode):
    whole = batched(mode, list(range(NUM)), backend_options={"num_threads": 3})
    parts = batched(mode, [0, 1], backend_options={"num_threads": 1}) + batched(mode, [2, 3, 4])
    for ours, reference in zip(parts, whole, strict=True):
        assert_equal(ours, reference)


@pytest.mark.parametrize("name", ("Ant-v5", "Humanoid-v5"))
def test_contact_forces_do_not_depend_on_the_other_worlds(name):
    """Fields the engine computes late are shared scratch in a batch; no world may see another's."""

    def run(num, first, threads):
        env = VectorEnv(make_task(name), num, worlds=torch.arange(num) + first, autoreset_mode=AutoresetMode.SAME_STEP,
                        backend_options={"num_threads": threads})  # fmt: skip
        out = [env.reset(seed=4)[0][:, None]]
        for action in torch.from_numpy(np.random.default_rng(1).uniform(-0.4, 0.4, (30, 4, env.task.model.nu))):
            obs, reward, _, _, info = env.step(action[first : first + num])
            out.append(torch.stack([obs, info["final_obs"], reward[:, None].expand_as(obs)], dim=1))
        return torch.cat(out, dim=1)

    together = run(4, 0, 2)
    assert torch.equal(run(1, 2, 1)[0], together[2])
    assert torch.equal(run(3, 1, 1), together[1:])


def test_episodes_follow_from_the_seed_alone():
    env = VectorEnv(pendulum(), NUM)
    first, _ = env.reset(seed=3)
    second, _ = env.reset()
    assert not torch.equal(first, second)
    env.step(torch.zeros(NUM, 1))
    assert torch.equal(env.reset(seed=3)[0], first)
    assert torch.equal(env.reset()[0], second)
    assert not torch.equal(env.reset(seed=4)[0], first)


def test_a_masked_reset_leaves_the_other_worlds_where_they_were():
    env = VectorEnv(pendulum(), 3, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    obs, *_ = env.step(torch.ones(3, 1))
    after, _ = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert torch.equal(after[[0, 2]], obs[[0, 2]])
    assert not torch.equal(after[1], obs[1])
    assert env.steps.tolist() == [1, 0, 1]
    assert env.episode.tolist() == [0, 1, 0]
    nothing, _ = env.reset(options={"reset_mask": np.zeros(3, bool)})
    assert torch.equal(nothing, after)


def test_reward_is_the_sum_of_its_terms_and_restarted_worlds_report_nothing():
    env = VectorEnv(make_task("Hopper-v5", episode_steps=3), 2)
    env.reset()
    for step in range(1, 6):
        _, reward, _, truncated, info = env.step(0.1 * torch.ones(2, 3, dtype=torch.float64))
        assert set(info["reward_terms"]) == {"forward", "survive", "ctrl"}
        assert torch.equal(reward, torch.stack(list(info["reward_terms"].values())).sum(dim=0))
        assert bool(truncated.all()) == (step == 3)
        assert bool((reward == 0).all()) == (step == 4)


def test_what_the_caller_gets_wrong_is_named():
    env = VectorEnv(pendulum(), 3)
    with pytest.raises(BackendError, match=r"call reset\(\) before"):
        env.step(torch.zeros(3, 1))
    env.reset()
    with pytest.raises(BackendError, match="a seed is the whole batch's"):
        env.reset(seed=1, options={"reset_mask": [True, False, False]})
    with pytest.raises(BackendError, match=r"\(3, 1\) here, got \(3, 2\)"):
        env.step(torch.zeros(3, 2))
    with pytest.raises(BackendError, match=r"world\(s\) \[1\] is not finite"):
        env.step(torch.tensor([[0.0], [torch.nan], [1.0]]))
    for _ in range(2):
        with pytest.raises(BackendError, match=r"reset_mask has shape \(3,\) here, got \(2,\)"):
            env.reset(options={"reset_mask": [True, False]})
    with pytest.raises(FermoError, match="num_worlds must be at least 1"):
        VectorEnv(pendulum(), 0)
    with pytest.raises(FermoError, match="did you mean 'cpu'"):
        VectorEnv(pendulum(), 1, backend="cpuu")


class Broken(Hopper):
    """Hopper with one function replaced by a wrong one."""

    def __init__(self, function, result):
        super().__init__()
        setattr(self, function, lambda *_: result)


WRONG = (
    ("reward", {"forward": torch.zeros(2, 1)}, r"reward term 'forward' has shape \(2, 1\), expected \(2,\)"),
    ("terminated", torch.zeros((), dtype=torch.bool), r"terminated has shape \(\), expected \(2,\)"),
    ("success", torch.zeros(3, dtype=torch.bool), r"success has shape \(3,\), expected \(2,\)"),
    ("ctrl", torch.zeros(2, 4), r"ctrl has shape \(2, 4\), expected \(2, 3\)"),
    ("initial_state", (torch.zeros(2, 6), torch.zeros(2, 5)), r"initial qvel has shape \(2, 5\), expected \(2, 6\)"),
    ("observation", {"root_position": torch.zeros(2, 2)}, r"observation 'root_position' has shape \(2, 2\)"),
    ("observation", {}, "declares 'root_position' but does not observe it"),
)


@pytest.mark.parametrize(("function", "result", "message"), WRONG)
def test_a_task_function_of_the_wrong_shape_is_named(function, result, message):
    env = VectorEnv(Broken(function, result), 2)
    with pytest.raises(BackendError, match=message):
        env.reset()
        env.step(torch.zeros(2, 3))
