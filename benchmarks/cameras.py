"""How fast worlds are seen: fermo's cameras beside `mujoco.Renderer`, taking turns in one process.

``python -m fermo.benchmarks.cameras HalfCheetah --num-envs 64 1024 --threads 1 2 --json cameras.json``
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, Literal

import mujoco
import torch
import tyro

from fermo.envs.core.vector_env import VectorEnv
from fermo.envs.registry import make_task
from fermo.envs.rendering.camera import make_camera
from fermo.envs.rendering.gl import gl_starts
from fermo.envs.rendering.pinhole import find_camera
from fermo.errors import FermoError

Picture = Literal["depth", "rgb"]
Look = Callable[[], int]  # makes pictures and says how many

_LOOPED_WORLDS = 64  # a loop in Python is no faster with more


@dataclass(frozen=True, kw_only=True)
class CameraOptions:
    """Pictures per second of wall time and of processor time.

    Attributes:
        tasks: Whose worlds to look at, at the start of their episodes.
        num_envs: Numbers of worlds.
        threads: Numbers of threads of the CPU back end.
        pictures: Kinds of picture; colour is without shadows and without antialiasing.
        size: Pixels each way.
        rounds: Turns of each contender.
        seconds: Least length of a turn.
        json: Where the rows go.
    """

    tasks: Annotated[tuple[str, ...], tyro.conf.Positional] = ("HalfCheetah",)
    num_envs: tuple[int, ...] = (64, 1024)
    threads: tuple[int, ...] = (1, 2)
    pictures: tuple[Picture, ...] = ("depth", "rgb")
    size: int = 64
    rounds: int = 5
    seconds: float = 0.5
    json: Path = Path("cameras.json")

    def __post_init__(self) -> None:
        counts = (*(self.num_envs or (0,)), *(self.threads or (0,)), self.size, self.rounds)
        if min(counts) < 1 or self.seconds <= 0:
            raise FermoError("num_envs, threads, size, rounds and seconds must be positive")


@dataclass(frozen=True, kw_only=True)
class CameraRow:
    """One contender on one task.

    Attributes:
        task: Its name.
        picture: ``"depth"`` or ``"rgb"``.
        contender: Who made the pictures.
        num_envs: Worlds it really looked at.
        wall_rates: Pictures per second, one a turn.
        cpu_rates: Pictures per second of processor time, one a turn.
    """

    task: str
    picture: Picture
    contender: str
    num_envs: int
    wall_rates: tuple[float, ...]
    cpu_rates: tuple[float, ...]


def measure(options: CameraOptions) -> list[CameraRow]:
    """Every contender on every task and number of worlds, turn by turn."""
    rows = []
    for task in options.tasks:
        for num_envs in options.num_envs:
            for picture in options.pictures:
                with ExitStack() as stack:
                    looks = _contenders(task, num_envs, picture, options, stack)
                    rows += _take_turns(task, picture, looks, options)
    return rows


def _contenders(task: str, num_envs: int, picture: Picture, options: CameraOptions,
                stack: ExitStack) -> dict[str, Look]:  # fmt: skip
    looks = {
        f"fermo, cpu, {threads} thread{'s' * (threads > 1)}": _ours(task, num_envs, picture, options.size,
                                                                  "cpu", {"num_threads": threads})
        for threads in options.threads
    }  # fmt: skip
    if torch.cuda.is_available():
        looks["fermo, warp, cuda"] = _ours(task, num_envs, picture, options.size, "warp", {"device": "cuda"})
    if gl_starts():
        platform = os.environ.get("MUJOCO_GL", "window system")
        looks[f"mujoco.Renderer, {platform}"] = _opengl(task, num_envs, picture, options.size, stack)
    return looks


def _ours(task: str, num_envs: int, picture: Picture, size: int, backend: str, settings: dict) -> Look:
    env = VectorEnv(make_task(task), num_envs, backend=backend, backend_options=settings)
    env.reset()
    camera = make_camera(env.backend, None, size, size)

    def look() -> int:
        if picture == "depth":
            camera.depth_and_segmentation()
        else:
            camera.rgb()
        if env.device.type == "cuda":
            torch.cuda.synchronize(env.device)
        return num_envs

    return look


def _opengl(task: str, num_envs: int, picture: Picture, size: int, stack: ExitStack) -> Look:
    env = VectorEnv(make_task(task), min(num_envs, _LOOPED_WORLDS))
    env.reset()
    qpos, model = env.sim["qpos"].numpy(), env.task.model
    model.vis.quality.offsamples = 0
    data = mujoco.MjData(model)
    # Closed before the next one opens: closing frees buffers of whichever OpenGL context is current.
    renderer = stack.enter_context(mujoco.Renderer(model, size, size))
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
    camera = find_camera(model, None, size, size).camera
    if picture == "depth":
        renderer.enable_depth_rendering()

    def look() -> int:
        for row in qpos:
            data.qpos[:] = row
            mujoco.mj_kinematics(model, data)
            mujoco.mj_comPos(model, data)  # cameras may follow a centre of mass
            mujoco.mj_camlight(model, data)
            renderer.update_scene(data, camera)
            renderer.render()
        return len(qpos)

    return look


def _take_turns(task: str, picture: Picture, looks: dict[str, Look], options: CameraOptions) -> list[CameraRow]:
    worlds = {name: look() for name, look in looks.items()}  # also compiles and fills caches
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in looks}
    for _ in range(options.rounds):
        for name, look in looks.items():
            rates[name].append(_turn(look, options.seconds))
    return [
        CameraRow(task=task, picture=picture, contender=name, num_envs=worlds[name],
                  wall_rates=tuple(wall for wall, _ in turns), cpu_rates=tuple(cpu for _, cpu in turns))
        for name, turns in rates.items()
    ]  # fmt: skip


def _turn(look: Look, seconds: float) -> tuple[float, float]:
    """Pictures per second of wall time and of this process's processor time."""
    pictures, wall, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < seconds:
        pictures += look()
    return pictures / (time.perf_counter() - wall), pictures / (time.process_time() - cpu)


def table(rows: list[CameraRow]) -> str:
    """Medians over the turns, a line a contender."""
    lines = [f"{'task':<28}{'picture':<9}{'worlds':>7}  {'contender':<28}{'pictures/s':>12}{'per CPU-s':>12}"]
    lines += [
        f"{row.task:<28}{row.picture:<9}{row.num_envs:>7}  {row.contender:<28}"
        f"{median(row.wall_rates):>12,.0f}{median(row.cpu_rates):>12,.0f}"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    """Entry point."""
    from fermo.training.files import write_json

    options = tyro.cli(CameraOptions)
    rows = measure(options)
    print(table(rows))
    if not gl_starts():
        print("mujoco.Renderer did not start here: set MUJOCO_GL to egl or osmesa to have it beside")
    write_json(options.json, {"load": os.getloadavg(), "mujoco": mujoco.__version__, "size": options.size,
                              "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()
