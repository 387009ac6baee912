"""The batched robosuite tasks against robosuite itself: physics, controller, observation, reward, success and starts.

Both sides compute in float64, but robosuite inverts by LAPACK what we factor, so torques differ by roundoff; and it
takes quaternions of rotation matrices in float32, so those agree to 5e-7. From one state, a control step then agrees
to 1e-12 whatever touches. Where roundoff decides something whole, a last iteration of the constraint solver or one
contact point more, the two differ by up to 1e-4 in positions and 5e-3 in velocities: once in hundreds of steps at the
solver's usual tolerance of 1e-8, and hardly ever when it runs to its end. Left to themselves both stay within 1e-11
for 50 steps and more, until contacts amplify what is left, as they would any two roundings.
"""

import copy
import dataclasses
import os
from importlib.util import find_spec

import gymnasium
import mujoco
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from scipy import stats

from fermo.cli import tasks as tasks_command
from fermo.envs.adapters import robosuite as adapter
from fermo.envs.core import post_constraint
from fermo.envs.core.backend import BackendError
from fermo.envs.core.nan_guard import DivergedWorldWarning, load_dump
from fermo.envs.core.random import WorldRandom
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import ROBOSUITE, make_task
from fermo.envs.tasks.robosuite.placement import place
from fermo.errors import FermoError

installed = pytest.mark.skipif(find_spec("robosuite") is None, reason="robosuite is an extra and is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:.*Box.*:UserWarning")  # gymnasium's advice about infinite bounds

WORLDS = 2
STATE = ("time", "qpos", "qvel", "qacc_warmstart")


class Pair:
    """robosuite's environment, just reset, and a batch of ours in the same state."""

    def __init__(self, name, seed=3):
        self.theirs = adapter.make_robosuite(name, reward_shaping=True, seed=seed)
        with adapter.quietly():
            self.first_obs = self.theirs.reset()
        model = self.theirs.sim.model._model
        size = {"cube_half_size": tuple(model.geom("cube_g0").size)} if name == "Lift" else {}
        self.task = make_task(f"Robosuite-{name}", reward_shaping=True, **size)
        self.ours = VectorEnv(self.task, WORLDS, autoreset_mode=AutoresetMode.DISABLED)
        self.ours.reset(seed=0)
        # robosuite's first torque is that of the fingers' inertia before it opened them; from a fresh look it is ours.
        self.theirs.robots[0].part_controllers["right"].new_update = True
        for field in ("body_pos", "body_quat"):
            rows = self.ours.backend.get_param(field)
            rows[:] = torch.as_tensor(getattr(model, field))
            self.ours.backend.set_param(field, rows)
        self.follow()
        self.ours.backend.forward(torch.ones(WORLDS, dtype=torch.bool))

    def follow(self):
        """Put our worlds into robosuite's present state."""
        for field in STATE:
            self.ours.sim[field][:] = torch.as_tensor(getattr(self.theirs.sim.data._data, field))

    def step(self, action):
        """Step both; largest differences of acceleration, of the other observations, and of the reward."""
        obs, reward, *_ = self.theirs.step(action)
        mine, rewards, _, _, info = self.ours.step(torch.as_tensor(action)[None].repeat(WORLDS, 1))
        assert info["success"].tolist() == [bool(self.theirs._check_success())] * WORLDS
        torch.testing.assert_close(mine[0], mine[1], rtol=0, atol=0)
        return np.array([*self.differences(mine[0], obs), abs(rewards[0].item() - reward)])

    def differences(self, mine, theirs):
        """Largest relative difference of accelerations, and of all other observations."""
        acceleration = slice(28, 35)
        wanted = np.concatenate([theirs["robot0_proprio-state"], theirs["object-state"]])
        assert mine.shape == wanted.shape
        gap = np.abs(mine.numpy() - wanted) / np.maximum(1.0, np.abs(wanted))
        return gap[acceleration].max(), np.delete(gap, np.r_[acceleration]).max()

    def solve_to_the_end(self):
        """Let the constraint solver stop only where no step improves, on both sides."""
        for name, value in (("tolerance", 0.0), ("ls_tolerance", 1e-6)):
            setattr(self.theirs.sim.model._model.opt, name, value)
            field = self.ours.backend.get_param(f"opt.{name}")
            self.ours.backend.set_param(f"opt.{name}", torch.full_like(field, value))

    def arrange(self, *, finger=None, **joints):
        """Put joints somewhere at rest, on both sides."""
        sim = self.theirs.sim
        for joint, value in joints.items():
            sim.data.set_joint_qpos(joint, np.array(value) if len(value) > 1 else value[0])
        if finger is not None:
            sim.data.qpos[7:9] = finger, -finger
        sim.data.qvel[:] = 0.0
        sim.forward()
        self.follow()
        self.ours.backend.forward(torch.ones(WORLDS, dtype=torch.bool))
        self.solve_to_the_end()

    def judged(self, **arrangement):
        """robosuite's reward of an arrangement, which must be ours, and so must success."""
        self.arrange(**arrangement)
        terms = self.task.reward(self.ours.sim, torch.zeros(WORLDS, 7))
        theirs = float(self.theirs.reward(None))
        np.testing.assert_allclose(self.task.total(terms), theirs, atol=1e-12)
        success = self.task.success(self.ours.sim)
        assert success is not None
        assert success.tolist() == [bool(self.theirs._check_success())] * WORLDS
        return theirs

    def toward(self, target, grip):
        """The action that takes the tool to a point."""
        tool = self.theirs.sim.data.site_xpos[self.theirs.robots[0].eef_site_id["right"]]
        return np.concatenate([np.clip((np.array(target) - tool) / 0.05, -1.0, 1.0), np.zeros(3), [grip]])


@pytest.fixture(scope="module")
def pairs():
    """One pair a task for all tests of this file: robosuite takes a second to make one."""
    made = {}
    return lambda name: made.get(name) or made.setdefault(name, Pair(name))


@pytest.mark.parametrize("chosen", [None, "osmesa"])
def test_opengl_is_not_robosuites_to_choose(chosen, monkeypatch):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    if chosen:
        monkeypatch.setenv("MUJOCO_GL", chosen)
    with adapter.quietly():
        os.environ["MUJOCO_GL"] = "egl"  # as its import does
    assert os.environ.get("MUJOCO_GL") == chosen


@installed
@pytest.mark.parametrize("name", [name if name == "Lift" else pytest.param(name, marks=pytest.mark.slow)
                                  for name in ROBOSUITE])  # fmt: skip
def test_tasks_follow_robosuite(pairs, name):
    """From its reset on: 30 random actions freely, then 200 each from robosuite's state, the solver run to its end."""
    pair = pairs(name)
    assert np.less(pair.differences(pair.ours._observe()[0], pair.first_obs), (1e-9, 5e-7)).all()
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (230, 7))
    free = np.max([pair.step(action) for action in actions[:30]], axis=0)
    assert (free < (1e-7, 5e-7, 1e-11)).all()
    pair.solve_to_the_end()
    each = []
    for action in actions[30:]:
        pair.follow()
        each.append(pair.step(action))
    assert (np.quantile(each, 0.98, axis=0) < (1e-9, 5e-7, 1e-12)).all()
    assert (np.max(each, axis=0)[1:] < (2e-2, 1e-6)).all()


@installed
def test_grasping_lifting_and_stacking_are_paid_as_robosuite_pays(pairs):
    """Cube A is picked up, carried over B and left there, by robosuite's own observations."""
    pair = pairs("Stack")
    pair.arrange(cubeA_joint0=(0.0, 0.0, 0.82, 1, 0, 0, 0), cubeB_joint0=(0.0, 0.12, 0.825, 1, 0, 0, 0))
    above, at, carried, put = (0, 0, 0.9), (0, 0, 0.82), (0, 0.12, 0.92), (0, 0.12, 0.872)
    stages, gaps = set(), []
    pick = (above, -1, 30), (at, -1, 15), (at, 1, 8), (above, 1, 10)
    for target, grip, steps in (*pick, (carried, 1, 15), (put, 1, 12), (put, -1, 6), (carried, -1, 8)):
        for _ in range(steps):
            gaps.append(pair.step(pair.toward(target, grip)))
            stages.add(tuple(round(value, 2) for value in pair.theirs.staged_rewards()))
            pair.follow()
    assert (np.quantile(gaps, 0.98, axis=0)[1:] < (5e-7, 1e-12)).all()
    assert pair.theirs._check_success()
    assert {stack for *_, stack in stages} == {0.0, 2.0}
    assert {lift > 0 for _, lift, _ in stages} == {False, True}
    assert {reach > 0.4 for reach, *_ in stages} == {False, True}  # with and without a grasp


@installed
def test_a_lifted_cube_is_paid_as_robosuite_pays(pairs):
    pair = pairs("Lift")
    pair.arrange(cube_joint0=(0.0, 0.0, 0.82, 1, 0, 0, 0))
    rewards, gaps = [], []
    for target, grip, steps in (
        ((0, 0, 0.9), -1, 30),
        ((0, 0, 0.82), -1, 15),
        ((0, 0, 0.82), 1, 8),
        ((0, 0, 0.95), 1, 15),
    ):
        for _ in range(steps):
            gaps.append(pair.step(pair.toward(target, grip)))
            rewards.append(pair.theirs.reward(None))
            pair.follow()
    assert (np.quantile(gaps, 0.98, axis=0)[1:] < (5e-7, 1e-12)).all()
    assert rewards[-1] == 1.0
    assert max(reward for reward in rewards if reward < 1.0) > 1.0 / 2.25  # the grasp is paid beside the reach


@installed
def test_nuts_and_pegs_are_paid_as_robosuite_pays(pairs):
    pair = pairs("NutAssemblySquare")
    peg = pair.theirs.sim.data.body_xpos[pair.theirs.peg1_body_id].copy()
    assert pair.judged(SquareNut_joint0=(*peg[:2], 0.84, 1, 0, 0, 0)) >= 1.0
    assert pair.theirs._check_success()
    tool = pair.theirs.sim.data.site_xpos[pair.theirs.robots[0].eef_site_id["right"]].copy()
    touched = []
    for way in (0.03, 0.054, 0.08):  # from the nut's middle along its handle
        pair.judged(SquareNut_joint0=(tool[0] - way, tool[1], tool[2], 1, 0, 0, 0), finger=0.008)
        touched.append(pair.theirs.staged_rewards()[1] > 0)
        assert not pair.theirs._check_success()
    assert any(touched)


@installed
@pytest.mark.parametrize(("hinge", "latch"), ((0.0, 0.0), (0.1, 0.9), (0.29, -2.0), (0.31, 0.5)))
def test_doors_are_paid_as_robosuite_pays(pairs, hinge, latch):
    reward = pairs("Door").judged(Door_hinge=(hinge,), Door_latch_joint=(latch,))
    assert (reward == 1.0) == (hinge > 0.3)


@installed
@pytest.mark.parametrize("name", ROBOSUITE)
def test_nothing_that_matters_to_physics_was_left_out(pairs, name):
    """robosuite's own compiled model and the one without pictures step bitwise alike."""
    pair = pairs(name)
    whole, light = pair.theirs.sim.model._model, pair.task.model
    assert light.ngeom < whole.ngeom / 2
    random = np.random.default_rng(0)
    start, controls = whole.qpos0.copy(), random.normal(size=(100, whole.nu))
    start[:7] = pair.task.scene.arm_position
    runs = []
    for compiled in (whole, light):
        model = copy.copy(compiled)
        model.body_pos[:], model.body_quat[:] = whole.body_pos, whole.body_quat
        model.opt.tolerance, model.opt.ls_tolerance = light.opt.tolerance, light.opt.ls_tolerance
        data = mujoco.MjData(model)
        data.qpos[:] = start
        for control in controls:
            data.ctrl[:] = control
            mujoco.mj_step(model, data, 5)
        runs.append(np.concatenate([data.qpos, data.qvel, data.qacc]))
    np.testing.assert_array_equal(*runs)


@installed
@pytest.mark.parametrize("name", ROBOSUITE)
def test_episodes_begin_where_robosuite_may_begin_them(pairs, name):
    """Kolmogorov and Smirnov tell our placements from robosuite's sampler as seldom as from themselves."""
    pair = pairs(name)
    world = torch.arange(400)
    ours = place(pair.task.scene.placements, WorldRandom(0, world, torch.zeros_like(world)))
    theirs = [list(pair.theirs.placement_initializer.sample().values()) for _ in range(400)]
    for index, poses in enumerate(ours):
        drawn = np.array([[*sample[index][0], *sample[index][1]] for sample in theirs])
        np.testing.assert_allclose(poses[:, 2], drawn[:, 2], atol=1e-12)
        for column in (0, 1, 3, 6):
            assert stats.ks_2samp(poses[:, column], drawn[:, column]).pvalue > 1e-4
    joints = pair.task.initial_state(WorldRandom(0, world, torch.zeros_like(world)))[0][:, :7]
    noise = (joints - joints.new_tensor(pair.task.scene.arm_position)) / 0.02
    assert stats.kstest(noise.flatten().numpy(), "norm").pvalue > 1e-4


@installed
def test_cubes_do_not_overlap_and_other_worlds_do_not_matter(pairs):
    placements = pairs("Stack").task.scene.placements
    episode = torch.zeros(500, dtype=torch.int64)
    a, b = place(placements, WorldRandom(7, torch.arange(500), episode))
    apart = torch.linalg.vector_norm((a - b)[:, :2], dim=1)
    assert apart.min() > placements[0].radius + placements[1].radius
    few = torch.tensor([411, 3])
    for pose, whole in zip(place(placements, WorldRandom(7, few, episode[:2])), (a, b), strict=True):
        torch.testing.assert_close(pose, whole[few], rtol=0, atol=0)
    crowded = [dataclasses.replace(item, x=(0.0, 0.01), y=(0.0, 0.01)) for item in placements]
    with pytest.raises(FermoError, match="cubeB_main cannot be placed beside cubeA_main"):
        place(crowded, WorldRandom(0, few, episode[:2]))


@installed
def test_a_restored_state_goes_on_exactly():
    """The goal, the posture and the gripper's command are in the state, and every episode's door in the parameters."""
    env = VectorEnv(make_task("Robosuite-Door", reward_shaping=True), 3, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=1)
    frames = env.backend.get_param("body_pos")[:, env.task.model.body("Door_main").id]
    assert len({tuple(row) for row in frames.tolist()}) == 3
    actions = torch.rand(8, 3, 7, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for action in actions[:4]:
        env.step(action)
    saved = env.backend.get_state()
    first = [env.step(action)[0].clone() for action in actions[4:]]
    env.backend.set_state(saved)
    for action, obs in zip(actions[4:], first, strict=True):
        torch.testing.assert_close(env.step(action)[0], obs, rtol=0, atol=0)


@installed
def test_the_gripper_moves_by_steps_and_starts_half_way():
    env = VectorEnv(make_task("Robosuite-Lift"), 2, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    action = torch.zeros(2, 7)
    action[:, 6] = torch.tensor([0.1, -1.0])
    commands = []
    for _ in range(7):
        env.step(action)
        commands.append(env.sim["ctrl"][:, 7].clone())
    opening = torch.stack(commands) / 0.02 - 1.0
    torch.testing.assert_close(opening[:, 1], torch.tensor([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(opening[:, 0], -opening[:, 1])
    env.reset(options={"reset_mask": torch.tensor([True, False])})
    env.step(torch.zeros(2, 7))
    torch.testing.assert_close(env.sim["ctrl"][:, 7], torch.tensor([0.02, 0.04], dtype=torch.float64))


@installed
def test_a_dump_replays_with_the_controller_whatever_was_registered_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT where it runs
    post_constraint.register()
    env = VectorEnv(make_task("Robosuite-Lift"), 2, dump_folder=tmp_path, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    env.step(torch.ones(2, 7))
    env.backend.read("qvel")[1] = 1e12
    with pytest.warns(DivergedWorldWarning):
        env.step(torch.ones(2, 7))
    (folder,) = tmp_path.glob("world1-*")
    file = folder / "model.mjb"
    model, data, about = load_dump(folder)
    slot, held = model.plugin[0], data.actuator_force[:7].copy()
    assert about["plugins"] == ["fermo.operational_space"]
    assert np.abs(held).max() > 1.0  # not the action, which is at most one
    model.plugin[0] = next(other for other in range(slot + 2) if other != slot)  # as another process may have it
    mujoco.mj_saveModel(model, str(file), None)
    restored, again, _ = load_dump(folder)
    assert restored.plugin[0] == slot
    np.testing.assert_array_equal(again.actuator_force[:7], held)


@installed
def test_robosuites_own_environment_through_gymnasiums_door():
    env = gymnasium.make("fermo.envs:robosuite/Lift-v1", horizon=3, disable_env_checker=True).unwrapped
    check_env(env, skip_render_check=True)
    assert env.plant.observations[-1].name == "gripper_to_cube_pos"
    obs, _ = env.reset(seed=5)
    assert obs.shape == (60,)
    ends = [env.step(np.zeros(7))[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]
    with pytest.raises(FermoError, match=r"robosuite cannot make Lift so: .*reward_shape"):
        adapter.make_robosuite("Lift", reward_shape=True)


@installed
def test_other_engines_and_impossible_settings_are_refused():
    with pytest.raises(BackendError, match="Robosuite-Lift-v0 runs on the cpu back end"):
        VectorEnv(make_task("Robosuite-Lift"), 1, backend="warp")
    with pytest.raises(FermoError, match="cube_half_size is three positive lengths"):
        make_task("Robosuite-Lift", cube_half_size=(0.02, 0.02))
    with pytest.raises(FermoError, match="horizon must be at least 1"):
        make_task("Robosuite-Stack", horizon=0)


def test_without_robosuite_tasks_are_listed_and_say_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(adapter, "find_spec", lambda name: None)
    adapter.load_scene.cache_clear()
    with pytest.raises(FermoError, match=r"^robosuite's tasks need robosuite: pip install 'fermo\[robosuite\]'$"):
        make_task("Robosuite-Lift")
    tasks_command.main([])
    listed = capsys.readouterr().out
    assert "Hopper-v5: " in listed
    assert "Robosuite-Door-v0: robosuite's tasks need robosuite" in listed
