"""Recordings against the same run written down by hand, on both back ends and in every autoreset mode."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
import torch
from gymnasium.vector import AutoresetMode
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.envs.rendering.recorder import Recorder
from fermo.errors import FermoError
from tests.envs.no_sync import no_sync

N, CHOSEN = 4, (3, 1)


def make_env(mode: AutoresetMode, backend: str = "cpu") -> VectorEnv:
    if backend == "warp":
        pytest.importorskip("mujoco_warp")
    options = {"device": "cpu"} if backend == "warp" else {"num_threads": 1}
    task = make_task("fermo/InvertedPendulum-v5")
    task.max_steps = 5  # so that some episodes are cut off and others fall
    return VectorEnv(task, N, backend=backend, seed=3, autoreset_mode=mode, backend_options=options,
                     captured=backend == "warp")  # fmt: skip


def pushes(count: int) -> Tensor:
    strength = torch.tensor([0.1, 3.0, 0.1, -2.0])[:, None]  # worlds 1 and 3 fall
    return strength * torch.rand(count, N, 1, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("backend", "mode"), [*(("cpu", mode) for mode in AutoresetMode), ("warp", AutoresetMode.NEXT_STEP)]
)
def test_a_recording_is_what_happened(backend: str, mode: AutoresetMode) -> None:
    recorder = Recorder(make_env(mode, backend), CHOSEN, length=50, observations=True)
    plain = make_env(mode, backend)
    obs, again = recorder.reset()[0], plain.reset()[0]
    rows: dict[int, dict[int, list]] = {world: {} for world in CHOSEN}
    ended = torch.zeros(N, dtype=torch.bool)
    for action in pushes(18):
        state = [(int(plain.episode[w]), plain.sim["qpos"][w].clone(), again[w].clone()) for w in range(N)]
        obs, *_ = recorder.step(action)
        again, reward, terminated, truncated, _ = plain.step(action)
        assert torch.equal(obs, again)  # recording changes nothing
        for world in CHOSEN:
            number, qpos, seen = state[world]
            acted = None
            if not (mode == AutoresetMode.NEXT_STEP and ended[world]):
                acted = (action[world], reward[world], terminated[world], truncated[world])
            rows[world].setdefault(number, []).append((qpos, seen, acted))
        ended = terminated | truncated
    episodes = recorder.episodes()
    assert [(e.world, e.number) for e in episodes] == [(w, number) for w in CHOSEN for number in rows[w]]
    assert len(episodes) == 2 if mode == AutoresetMode.DISABLED else len(episodes) > 4
    for episode in episodes:
        expected = rows[episode.world][episode.number]
        assert episode.first_step == 0
        assert torch.equal(episode.qpos, torch.stack([qpos for qpos, _, _ in expected]))
        assert episode.observation is not None
        assert torch.equal(episode.observation, torch.stack([seen for _, seen, _ in expected]))
        acted = [row[2] for row in expected if row[2] is not None]
        for name, column in zip(("action", "reward", "terminated", "truncated"), zip(*acted, strict=True), strict=True):
            assert torch.equal(getattr(episode, name), torch.stack(column)), name


@pytest.mark.parametrize("length", [1, 7, 12])
def test_a_ring_keeps_the_latest_steps(length: int) -> None:
    env = make_env(AutoresetMode.SAME_STEP)
    recorder = Recorder(env, [2], length=length)
    whole = Recorder(make_env(AutoresetMode.SAME_STEP), [2], length=100)
    for each in (recorder, whole):
        each.reset()
        for action in pushes(12):
            each.step(action)
    for name in ("qpos", "action", "reward"):
        latest = torch.cat([getattr(episode, name) for episode in recorder.episodes()])
        assert torch.equal(latest, torch.cat([getattr(e, name) for e in whole.episodes()])[-length:])
    last, last_whole = recorder.episodes()[-1], whole.episodes()[-1]
    assert last.number == last_whole.number
    assert last.first_step == last_whole.first_step + len(last_whole.reward) - len(last.reward)


def test_a_world_restarted_by_hand_begins_an_episode_and_a_seed_begins_a_run() -> None:
    recorder = Recorder(make_env(AutoresetMode.DISABLED), CHOSEN)
    recorder.reset()
    play = pushes(4)
    for action in play[:2]:
        recorder.step(action)
    recorder.reset(options={"reset_mask": torch.tensor([False, True, False, False])})
    for action in play[2:]:
        recorder.step(action)
    assert [(e.world, e.number, len(e.reward)) for e in recorder.episodes()] == [(3, 0, 4), (1, 0, 2), (1, 1, 2)]
    recorder.reset(seed=9)
    assert recorder.episodes() == []
    recorder.step(play[0])
    assert [(e.world, e.number, len(e.reward)) for e in recorder.episodes()] == [(3, 0, 1), (1, 0, 1)]


def test_recording_waits_for_nothing() -> None:
    recorder = Recorder(make_env(AutoresetMode.NEXT_STEP, "warp"), CHOSEN, length=2, observations=True)
    recorder.reset()
    play = pushes(5)
    recorder.step(play[0])
    for action in play[1:]:
        with no_sync():
            recorder.step(action)


def test_files_and_films_tell_the_same(tmp_path: Path) -> None:
    recorder = Recorder(make_env(AutoresetMode.NEXT_STEP), [0])
    recorder.reset(seed=5)
    for action in pushes(8):
        recorder.step(action)
    files = recorder.save(tmp_path / "new", film=True)
    assert [file.name for file in files] == [
        "world0-episode0.safetensors", "world0-episode1.safetensors", "world0-episode0.mp4", "world0-episode1.mp4",
    ]  # fmt: skip
    first = recorder.episodes()[0]
    assert len(first.qpos) == len(first.action) + 1 == 6
    tensors = load_file(files[0])
    assert set(tensors) == {"qpos", "action", "reward", "terminated", "truncated"}
    assert all(torch.equal(tensor, getattr(first, name)) for name, tensor in tensors.items())
    with safe_open(files[0], "pt") as file:
        about = file.metadata()
    assert about["task"] == "fermo/InvertedPendulum-v5" and about["seed"] == "5" and about["world"] == "0"
    with av.open(str(files[2])) as container:
        pictures = sum(1 for _ in container.decode(video=0))
        rate = container.streams.video[0].average_rate
    every = round(recorder.task.spec.rate_hz / rate)
    assert pictures == len(first.qpos[::every])


def test_a_recorder_is_the_environment_to_others() -> None:
    pytest.importorskip("stable_baselines3")
    from fermo.envs.adapters.sb3 import Sb3VecEnv

    recorder = Recorder(make_env(AutoresetMode.SAME_STEP), [0], length=20)
    env = Sb3VecEnv(recorder)  # type: ignore[arg-type]
    env.reset()
    for action in pushes(3):
        env.step(action.numpy())
    assert len(recorder.episodes()[0].action) == 3
    assert recorder.unwrapped is recorder.env
    with pytest.raises(AttributeError):
        _ = recorder.no_such_thing


@pytest.mark.parametrize(
    ("worlds", "length", "why"),
    [([], 5, "at least one"), ([4], 5, "worlds of 0 to 3"), ([-1], 5, "worlds of 0"), ([1, 1], 5, "different"),
     ([0], 0, "at least 1 step")],
)  # fmt: skip
def test_a_recording_that_cannot_be_is_refused(worlds: list[int], length: int, why: str) -> None:
    with pytest.raises(FermoError, match=why):
        Recorder(make_env(AutoresetMode.SAME_STEP), worlds, length=length)


def test_observations_begin_with_a_reset() -> None:
    env = make_env(AutoresetMode.SAME_STEP)
    env.reset()
    recorder = Recorder(env, [0], observations=True)
    with pytest.raises(FermoError, match=r"call the recorder's reset\(\)"):
        recorder.step(pushes(1)[0])
