"""``fermo play``: watch a task, a checkpoint or a diverged world, in a window, a browser or a video file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fermo.cli.eval import load_pair
from fermo.cli.parsing import parse
from fermo.envs.registry import task_id
from fermo.errors import FermoError

if TYPE_CHECKING:
    import mujoco
    import numpy as np
    from torch import Tensor

    from fermo.envs.core.vector_env import VectorEnv
    from fermo.policies.base import Policy

_VIDEO_RATE = 15.0  # pictures a second
_SLOW_MOTION = 0.1  # s of film per physics step of a diverged world

Show = Callable[["mujoco.MjData"], bool]
"""Shows a state; False once the viewer was closed."""


@dataclass(frozen=True, kw_only=True)
class PlayOptions:
    """Watch TARGET: a task's name, a checkpoint folder, or the folder of a diverged world.

    Without a screen, and with --video, one episode goes to an MP4 file.

    Attributes:
        target: What to watch.
        agent: Who acts; a checkpoint's own policy, else zeros, unless said otherwise.
        task: Where a checkpoint acts, if it does not say.
        web: Show it in a browser.
        port: Of the browser viewer.
        video: Write one episode to this MP4 file instead of opening a viewer.
        width: Of the video, in pixels.
        height: Of the video, in pixels.
        episodes: How many, in a viewer; 0 for endless.
        seed: Of the starting states.
    """

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    agent: Literal["zero", "random", "trained"] | None = None
    task: str | None = None
    web: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    port: int = 8080
    video: Path | None = None
    width: int = 320
    height: int = 240
    episodes: int = 0
    seed: int = 0


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(PlayOptions, "play", arguments)
    folder = Path(options.target)
    if (folder / "dump.json").is_file():
        _play_dump(folder, options)
    elif folder.is_dir() or _looks_like_a_path(options.target):
        _play_checkpoint(folder, options)
    else:
        name = task_id(options.target)
        if options.agent == "trained":
            raise FermoError(f"a trained agent comes from a checkpoint: fermo play CHECKPOINT --task {options.target}")
        _play_task(name, options, options.agent or "zero", None)


def _looks_like_a_path(target: str) -> bool:
    return os.sep in target.removeprefix("fermo/") or target.startswith(".")


def _play_checkpoint(folder: Path, options: PlayOptions) -> None:
    task, policy = load_pair(folder, options.task)
    _play_task(task.name, options, options.agent or "trained", policy)


def _play_task(name: str, options: PlayOptions, agent: str, policy: Policy | None) -> None:
    from gymnasium.vector import AutoresetMode

    from fermo.envs.core.vector_env import VectorEnv
    from fermo.envs.registry import make_task

    env = VectorEnv(make_task(name), 1, seed=options.seed, autoreset_mode=AutoresetMode.DISABLED)
    choose = _agent(agent, env, policy)
    if options.video or not (options.web or _has_screen()):
        _film(env, choose, options)
        return
    print(f"{name}, {agent} agent; Ctrl-C ends")
    with _viewer(env.task.model, options) as show:
        episode = 0
        while options.episodes == 0 or episode < options.episodes:
            for data in _episode(env, choose):
                started = time.monotonic()
                if not show(data):
                    return
                time.sleep(max(0.0, env.task.control_dt - (time.monotonic() - started)))
            episode += 1


def _agent(name: str, env: VectorEnv, policy: Policy | None) -> Callable[[Tensor], Tensor]:
    import torch

    low, high = (torch.as_tensor(bound) for bound in (env.single_action_space.low, env.single_action_space.high))
    if name == "trained" and policy is not None:
        return lambda obs: _act(policy, obs, env.steps == 0)
    if name == "random":
        random = torch.Generator().manual_seed(env.seed)
        return lambda obs: low + (high - low) * torch.rand(1, len(low), generator=random)
    return lambda obs: torch.zeros(1, len(low)).clamp(low, high)


def _act(policy: Policy, obs: Tensor, begins: Tensor) -> Tensor:
    policy.reset(begins)
    return policy.select_action(obs)


def _episode(env: VectorEnv, choose: Callable[[Tensor], Tensor]) -> Iterator[mujoco.MjData]:
    """The states of one episode, and a line on how it ended."""
    import mujoco
    import torch

    data, model = mujoco.MjData(env.task.model), env.task.model
    obs, _ = env.reset()
    total, info = 0.0, {}
    for _ in range(env.task.max_steps):
        data.qpos[:], data.qvel[:] = env.sim["qpos"][0], env.sim["qvel"][0]
        mujoco.mj_forward(model, data)
        yield data
        with torch.no_grad():
            obs, reward, terminated, truncated, info = env.step(choose(obs))
        total += float(reward[0])
        if terminated[0] or truncated[0]:
            break
    success = f", success: {'yes' if info['success'][0] else 'no'}" if "success" in info else ""
    print(f"episode of {int(env.steps[0])} steps, return {total:.2f}{success}", flush=True)


def _film(env: VectorEnv, choose: Callable[[Tensor], Tensor], options: PlayOptions) -> None:
    import numpy as np

    qpos = np.stack([data.qpos.copy() for data in _episode(env, choose)])
    rate = 1 / env.task.control_dt
    rows = np.rint(np.arange(0, len(qpos), rate / _VIDEO_RATE)).astype(int)
    _write_film(env.task.picture_model(), qpos[rows[rows < len(qpos)]], options)


def _write_film(model: mujoco.MjModel, qpos: np.ndarray, options: PlayOptions) -> None:
    from tqdm import tqdm

    from fermo.envs.rendering.trajectory import make_renderer
    from fermo.envs.rendering.video import write_mp4

    renderer = make_renderer(model, width=options.width, height=options.height)
    frames = tqdm(renderer.frames(qpos), total=len(qpos), desc=f"{renderer.name} pictures", disable=None)
    path = write_mp4(options.video or Path("play.mp4"), frames, _VIDEO_RATE)
    why = "" if options.video else " (there is no screen; --web opens a browser viewer)"
    print(f"{path}{why}")


def _play_dump(folder: Path, options: PlayOptions) -> None:
    """Step a diverged world from its last good state and say where it breaks."""
    import mujoco
    import numpy as np

    from fermo.envs.core.nan_guard import load_dump

    model, data, about = load_dump(folder)
    print(f"{about['task']}, seed {about['seed']}, world {about['world']}, episode {about['episode']}, "
          f"control step {about['step']}: {about['substeps']} physics steps follow")  # fmt: skip
    good = [data.qpos.copy()]
    for substep in range(about["substeps"]):
        mujoco.mj_step(model, data)
        kinds = [mujoco.mjtWarning(kind) for kind in range(mujoco.mjtWarning.mjNWARNING)]
        broken = [kind.name for kind in kinds if data.warning[kind].number]
        if broken or not np.isfinite(data.qpos).all():
            print(f"breaks in physics step {substep + 1}: {', '.join(broken) or 'the state is not finite'}")
            break
        good.append(data.qpos.copy())
    repeats = round(_SLOW_MOTION * _VIDEO_RATE) or 1
    if options.video or not (options.web or _has_screen()):
        _write_film(model, np.repeat(np.stack(good), repeats, axis=0), options)
        return
    with _viewer(model, options) as show:
        shown = mujoco.MjData(model)
        while True:
            for qpos in good:
                shown.qpos[:] = qpos
                mujoco.mj_forward(model, shown)
                if not show(shown):
                    return
                time.sleep(_SLOW_MOTION)


def _has_screen() -> bool:
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


@contextmanager
def _viewer(model: mujoco.MjModel, options: PlayOptions) -> Iterator[Show]:
    if options.web:
        from fermo.envs.rendering.web import WebScene

        scene = WebScene(model, options.port)
        print(f"open http://localhost:{scene.port}", flush=True)
        try:
            yield lambda data: (scene.show(data), True)[1]
        finally:
            scene.close()
        return
    import mujoco
    import mujoco.viewer

    shown = mujoco.MjData(model)
    with mujoco.viewer.launch_passive(model, shown) as window:

        def show(data: mujoco.MjData) -> bool:
            with window.lock():
                shown.qpos[:], shown.qvel[:] = data.qpos, data.qvel
                mujoco.mj_forward(model, shown)
            window.sync()
            return window.is_running()

        yield show
