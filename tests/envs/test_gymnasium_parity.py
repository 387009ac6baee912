"""The rebuilt environments against Gymnasium's own: equal to the last bit, resets included."""

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode
from scipy.stats import ks_2samp

from fermo.envs.core import host
from fermo.envs.core.backend_cpu import CpuBackend
from fermo.envs.core.post_constraint import add_post_constraint
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.envs.tasks.gymnasium.arithmetic import pairwise_sum
from fermo.errors import FermoError

NAMES = (
    "Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5", "Humanoid-v5", "HumanoidStandup-v5", "InvertedPendulum-v5",
)  # fmt: skip
HUMANOID = {
    "include_cinert_in_observation": False,
    "include_qfrc_actuator_in_observation": False,
    "exclude_current_positions_from_observation": False,
    "reset_noise_scale": 0.05,
    "ctrl_cost_weight": 0.3,
}
ARGUMENTS = (
    ("Hopper-v5", {"healthy_state_range": (-3.0, 3.0), "healthy_z_range": (0.9, 1.4), "healthy_reward": 0.3,
                   "forward_reward_weight": 2.1, "exclude_current_positions_from_observation": False}),
    ("Walker2d-v5", {"terminate_when_unhealthy": False, "ctrl_cost_weight": 0.07, "frame_skip": 3}),
    ("HalfCheetah-v5", {"reset_noise_scale": 0.4, "ctrl_cost_weight": 0.7, "forward_reward_weight": 0.3}),
    ("Ant-v5", {"include_cfrc_ext_in_observation": False, "contact_cost_weight": 0.03, "main_body": "torso",
                "contact_force_range": (-5.0, 2.0), "healthy_z_range": (0.3, 0.9)}),
    ("Humanoid-v5", HUMANOID | {"contact_cost_weight": 1e-3, "contact_cost_range": (1.0, 4.0)}),
    ("HumanoidStandup-v5", HUMANOID | {"impact_cost_weight": 1e-3, "impact_cost_range": (1.0, 4.0)}),
    ("InvertedPendulum-v5", {"reset_noise_scale": 0.1, "frame_skip": 1}),
)  # fmt: skip


class Pair:
    """N Gymnasium environments and one batch of N worlds that starts every episode where they do."""

    def __init__(self, name, num, **arguments):
        self.theirs = [gymnasium.make(name, **arguments) for _ in range(num)]
        self.task = make_task(name, **arguments)
        self.ours = VectorEnv(self.task, num, autoreset_mode=AutoresetMode.DISABLED)
        self.starting = list(range(num))
        self.task.initial_state = self._starts
        for index, env in enumerate(self.theirs):
            env.action_space.seed(index)

    def _starts(self, random):
        data = [self.theirs[index].unwrapped.data for index in self.starting]
        return tuple(torch.from_numpy(np.stack([getattr(d, name) for d in data])) for name in ("qpos", "qvel"))

    def reset(self, starting, seed=None):
        self.starting = starting
        obs = {index: self.theirs[index].reset(seed=None if seed is None else seed + index)[0] for index in starting}
        mask = torch.zeros(len(self.theirs), dtype=torch.bool)
        mask[starting] = True
        ours, _ = self.ours.reset(options={"reset_mask": mask})
        for index in starting:
            np.testing.assert_array_equal(ours[index].numpy(), obs[index])

    def compare(self, steps, dtype):
        self.reset(self.starting, seed=7)
        episodes = 0
        for _ in range(steps):
            actions = [env.action_space.sample().astype(dtype) for env in self.theirs]
            obs, reward, terminated, truncated, _ = self.ours.step(np.stack(actions))
            theirs = [env.step(action) for env, action in zip(self.theirs, actions, strict=True)]
            for index, (their_obs, their_reward, their_terminated, their_truncated, _) in enumerate(theirs):
                np.testing.assert_array_equal(obs[index].numpy(), their_obs)
                assert float(reward[index]) == float(their_reward)
                assert bool(terminated[index]) == their_terminated
                assert bool(truncated[index]) == their_truncated
            ended = torch.nonzero(terminated | truncated).flatten().tolist()
            if ended:
                self.reset(ended)
            episodes += len(ended)
        return episodes


@pytest.mark.parametrize("name", NAMES)
def test_equal_bit_by_bit_over_a_thousand_steps_and_the_resets_between(name):
    assert Pair(name, 1).compare(1000, np.float32) >= 1


@pytest.mark.parametrize("name", NAMES)
def test_equal_bit_by_bit_in_a_batch_with_actions_in_double_precision(name):
    pair = Pair(name, 3)
    assert pair.ours.single_observation_space == pair.theirs[0].observation_space
    assert pair.ours.single_action_space == pair.theirs[0].action_space
    pair.compare(60, np.float64)


@pytest.mark.parametrize(("name", "arguments"), ARGUMENTS, ids=[name for name, _ in ARGUMENTS])
def test_equal_bit_by_bit_with_other_arguments(name, arguments):
    pair = Pair(name, 2, **arguments)
    assert pair.ours.single_observation_space == pair.theirs[0].observation_space
    pair.compare(60, np.float32)


@pytest.mark.parametrize("name", ("Hopper-v5", "HalfCheetah-v5", "Ant-v5", "HumanoidStandup-v5"))
def test_initial_states_have_gymnasiums_distribution(name):
    env, count = gymnasium.make(name).unwrapped, 1500
    theirs = []
    for seed in range(count):
        env.reset(seed=seed)
        theirs.append(np.concatenate([env.data.qpos, env.data.qvel]))
    random = WorldRandom(5, torch.arange(count), torch.zeros(count, dtype=torch.int64))
    ours = torch.cat(make_task(name).initial_state(random), dim=1).numpy()
    theirs = np.stack(theirs)
    np.testing.assert_allclose(ours.std(axis=0), theirs.std(axis=0), rtol=0.1)
    p_values = [ks_2samp(ours[:, k], theirs[:, k]).pvalue for k in range(ours.shape[1])]
    assert min(p_values) > 1e-3 / len(p_values)
    correlation = np.corrcoef(ours, rowvar=False) - np.eye(ours.shape[1])
    assert np.abs(correlation).max() < 5.0 / np.sqrt(count)


@pytest.mark.parametrize("count", (1, 3, 7, 8, 9, 17, 23, 84, 127, 128, 129, 200, 300))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("by_numpy", (True, False))
def test_sums_round_as_numpys_do(count, dtype, by_numpy, monkeypatch):
    monkeypatch.setattr(host, "on_host", lambda tensor: by_numpy)
    rows = torch.from_numpy(np.random.default_rng(count).normal(size=(50, count)) * 1e3).to(dtype)
    np.testing.assert_array_equal(pairwise_sum(rows).numpy(), [np.sum(row) for row in rows.numpy()])


def test_a_missing_model_file_and_a_senseless_argument_are_named():
    with pytest.raises(FermoError, match=r"hoper\.xml.*hopper\.xml"):
        make_task("Hopper-v5", xml_file="hoper.xml")
    with pytest.raises(FermoError, match="did you mean 'frame_skip'"):
        make_task("Hopper-v5", frameskip=2)
    with pytest.raises(FermoError, match="frame_skip"):
        make_task("Hopper-v5", frame_skip=0)


@pytest.mark.parametrize("integrator", ("Euler", "RK4", "implicitfast"))
def test_forces_on_bodies_are_those_of_mj_rne_post_constraint_and_leave_physics_alone(integrator):
    xml = f"""<mujoco><option integrator="{integrator}"/><worldbody><geom type="plane" size="1 1 1"/>
      <body pos="0 0 .2" euler="0 70 0"><freejoint/><geom type="capsule" size=".03 .1"/>
      <body pos="0 0 .15"><joint axis="0 1 0"/><geom type="box" size=".02 .03 .04"/></body></body></worldbody>
      </mujoco>"""
    spec = mujoco.MjSpec.from_string(xml)
    add_post_constraint(spec)
    backend = CpuBackend(spec.compile(), 2, refresh=False)
    forces, qpos = backend.read("cfrc_ext"), backend.read("qpos")
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    for _ in range(150):
        backend.step(torch.zeros(2, 0), 2)
        mujoco.mj_step(model, data, 2)
        mujoco.mj_rnePostConstraint(model, data)
        for world in range(2):
            np.testing.assert_array_equal(qpos[world].numpy(), data.qpos)
            np.testing.assert_array_equal(forces[world].numpy(), data.cfrc_ext)
    assert forces.abs().max() > 1.0
