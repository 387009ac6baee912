"""A world that diverges is frozen and written down; the others never notice."""

import mujoco
import pytest
import torch
from gymnasium.vector import AutoresetMode

from fermo.envs.core.nan_guard import DivergedWorldWarning, load_dump
from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.errors import FermoError

NUM, BAD = 4, 2
NAMES = ("Hopper-v5", "Ant-v5")


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes MUJOCO_LOG.TXT where it runs


def make(name, folder, mode=AutoresetMode.DISABLED, **options):
    env = VectorEnv(make_task(name), NUM, seed=1, autoreset_mode=mode, dump_folder=folder, **options)
    env.reset()
    return env


def action(env, step):
    generator = torch.Generator().manual_seed(step)
    return torch.rand(NUM, env.task.model.nu, generator=generator) - 0.5


def spoil(env, value=1e12):
    env.backend.read("qvel")[BAD] = value


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("threads", (1, 2))
def test_others_run_on_bit_by_bit(name, threads, tmp_path):
    env, control = (make(name, tmp_path, backend_options={"num_threads": threads}) for _ in range(2))
    others = [world for world in range(NUM) if world != BAD]
    for step in range(8):
        if step == 3:
            spoil(env)
            with pytest.warns(DivergedWorldWarning, match=r"world\(s\) \[2\].*fermo play"):
                got = env.step(action(env, step))
        else:
            got = env.step(action(env, step))
        expected = control.step(action(env, step))
        for mine, theirs in zip(got[:4], expected[:4], strict=True):
            assert torch.equal(mine[others], theirs[others])
        assert got[4]["failed"].tolist() == [world == BAD and step >= 3 for world in range(NUM)]
        assert bool(got[2][BAD]) or step < 3
        assert torch.isfinite(got[0]).all()
        assert torch.isfinite(got[1]).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_dump_replays_the_divergence(name, tmp_path):
    env = make(name, tmp_path)
    mass = env.backend.get_param("body_mass")
    mass[BAD, 1] *= 1.5
    env.backend.set_param("body_mass", mass)
    env.step(action(env, 0))
    spoil(env)
    with pytest.warns(DivergedWorldWarning):
        env.step(action(env, 1))
    (folder,) = tmp_path.glob("world*")
    model, data, about = load_dump(folder)
    assert about == {"task": env.task.name, "seed": 1, "world": BAD, "episode": 0, "step": 1,
                     "substeps": env.task.substeps,
                     "plugins": ["fermo.post_constraint"] if name == "Ant-v5" else []}  # fmt: skip
    assert model.body_mass[1] == float(mass[BAD, 1])
    assert (data.qvel == 1e12).all()
    assert torch.equal(torch.from_numpy(data.ctrl), action(env, 1)[BAD].double())
    mujoco.mj_step(model, data, about["substeps"])
    bad = (mujoco.mjtWarning.mjWARN_BADQPOS, mujoco.mjtWarning.mjWARN_BADQVEL, mujoco.mjtWarning.mjWARN_BADQACC)
    assert sum(data.warning[kind].number for kind in bad) > 0


def test_a_frozen_world_stays_until_reset_and_can_fail_again_at_once(tmp_path):
    env = make("Hopper-v5", tmp_path)
    mask = torch.arange(NUM) == BAD
    for _ in range(3):
        spoil(env)
        with pytest.warns(DivergedWorldWarning):
            env.step(action(env, 0))
        state = env.sim["qpos"][BAD].clone()
        *_, info = env.step(action(env, 1))
        assert info["failed"].tolist() == mask.tolist()
        assert torch.equal(env.sim["qpos"][BAD], state)
        env.reset(options={"reset_mask": mask})
        assert not env.backend.failed.any()
    *_, info = env.step(action(env, 2))
    assert not info["failed"].any()


@pytest.mark.parametrize("mode", (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP), ids=lambda mode: mode.name)
def test_autoreset_revives_a_failed_world_and_reports_it_once(mode, tmp_path):
    env = make("Hopper-v5", tmp_path, mode)
    spoil(env)
    with pytest.warns(DivergedWorldWarning):
        _, _, terminated, _, info = env.step(action(env, 0))
    assert bool(terminated[BAD])
    assert bool(info["failed"][BAD])
    for step in (1, 2):
        obs, _, terminated, _, info = env.step(action(env, step))
        assert not info["failed"].any()
        assert not terminated.any()
        assert torch.isfinite(obs).all()
        assert (obs.abs() < 20.0).all()


@pytest.mark.parametrize("mode", AutoresetMode, ids=lambda mode: mode.name)
@pytest.mark.parametrize("name", NAMES)
def test_nan_ends_with_its_world(name, mode, tmp_path):
    env = make(name, tmp_path, mode)
    spoil(env, float("nan"))
    with pytest.warns(DivergedWorldWarning):
        obs, reward, terminated, _, info = env.step(action(env, 0))
    assert terminated.tolist() == [world == BAD for world in range(NUM)]
    for value in (obs, reward, info.get("final_obs", obs), *info["reward_terms"].values()):
        assert torch.isfinite(value).all()
    if mode != AutoresetMode.SAME_STEP:  # the frozen world's action is ignored, whatever a policy makes of it
        env.step(action(env, 1).index_fill(0, torch.tensor([BAD]), float("nan")))


def test_an_incomplete_dump_is_named(tmp_path):
    with pytest.raises(FermoError, match="not a complete dump"):
        load_dump(tmp_path / "nothing")
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "dump.json").write_text("{}")
    with pytest.raises(FermoError, match="not a complete dump"):
        load_dump(folder)
