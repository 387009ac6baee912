"""What chosen worlds of a batch did lately: kept on the device, told when asked, saved with films."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from safetensors.torch import save_file
from torch import Tensor

from fermo.envs.core.vector_env import VectorEnv
from fermo.errors import FermoError

_FILM_RATE = 30.0  # [Hz], above which pictures are left out
_OF_STATES = ("qpos", "observation")  # known even where the action that followed was ignored


@dataclass(frozen=True, kw_only=True)
class Episode:
    """A stretch of one episode of one world, on the CPU: row t is the state in which action t was taken.

    Attributes:
        world: Row of the batch.
        number: Which episode of that world.
        first_step: Control steps before the first row; not 0 where the beginning was no longer kept.
        qpos: Configurations, ``(T, nq)``, or ``(T + 1, nq)`` where the last was seen: `Recorder` says when.
        action: Actions given, ``(T, command_size)``.
        reward: What followed, ``(T,)``.
        terminated: Whether the episode ended by its own rules then, ``(T,)`` bool.
        truncated: Whether its time was over then, ``(T,)`` bool.
        observation: As many rows as `qpos`, ``(., observation_size)``; none unless asked for.
    """

    world: int
    number: int
    first_step: int
    qpos: Tensor
    action: Tensor
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    observation: Tensor | None = None


class Recorder(gymnasium.vector.VectorWrapper):
    """An environment that remembers the last steps of a few of its worlds; give it to whatever steps environments.

    The others cost nothing, and nothing waits for the device until `episodes` or `save` is called. Rows live in a ring
    of `length` control steps on the device; older ones are overwritten.

    A finished episode's last configuration is seen in NEXT_STEP mode, where it stays for one step, whose action is
    ignored. In SAME_STEP mode it has given way to the next start before anybody can look.

    Args:
        env: What to record.
        worlds: Rows of the batch.
        length: Control steps kept.
        observations: Whether to keep observations too.

    Raises:
        FermoError: A world that does not exist or is named twice, or a length below 1.
    """

    def __init__(self, env: VectorEnv, worlds: Sequence[int], *, length: int = 1000,
                 observations: bool = False) -> None:  # fmt: skip
        super().__init__(env)
        worlds = [int(world) for world in worlds]
        wrong = [world for world in worlds if not 0 <= world < env.num_envs]
        if not worlds or wrong or len(set(worlds)) < len(worlds):
            raise FermoError(f"record different worlds of 0 to {env.num_envs - 1}, at least one, got {worlds}")
        if length < 1:
            raise FermoError(f"a recording keeps at least 1 step, got length={length}")
        self.worlds, self.length = tuple(worlds), length
        self._batch = env
        self._rows = torch.tensor(worlds, device=env.device)
        self._done: Tensor = env.roots()["counters"]["done"]
        self._keeps_observations = observations
        self._obs: Tensor | None = None
        self._ring: dict[str, Tensor] = {}
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.env, name)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Tensor, dict[str, Any]]:
        """See `VectorEnv.reset`. A seed begins another run: what was recorded before it is forgotten."""
        if seed is not None:
            self.clear()
        self._obs, info = self._batch.reset(seed=seed, options=options)
        return self._obs, info

    def step(self, actions: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, Any]]:
        """See `VectorEnv.step`; one row of the recording."""
        action, env = torch.as_tensor(actions, device=self._batch.device), self._batch
        state = {"qpos": env.sim["qpos"], "number": env.episode, "step": env.steps}
        if env.autoreset_mode == AutoresetMode.NEXT_STEP:
            state["ignored"] = self._done
        if self._keeps_observations:
            if self._obs is None:
                raise FermoError("call the recorder's reset() before its first step(), to have the first observation")
            state["observation"] = self._obs
        self._note(state)
        result = env.step(action)
        self._obs, reward, terminated, truncated, _ = result
        self._note({"action": action, "reward": reward, "terminated": terminated, "truncated": truncated})
        self._count += 1
        return result

    def _note(self, values: dict[str, Tensor]) -> None:
        """Write the recorded worlds' rows of `values` ``(N, ...)`` into the ring's present slot."""
        for name, value in values.items():
            if name not in self._ring:
                self._ring[name] = value.new_zeros(self.length, len(self.worlds), *value.shape[1:])
            slot = self._ring[name][self._count % self.length]
            slot.copy_(value.detach().index_select(0, self._rows))  # indexing by a list would copy it to the device

    def clear(self) -> None:
        """Forget what was recorded."""
        self._count = 0

    def episodes(self) -> list[Episode]:
        """What is remembered, world by world and then in order. Waits for the device."""
        kept = min(self._count, self.length)
        order = torch.arange(self._count - kept, self._count) % self.length
        rows = {name: values.cpu()[order] for name, values in self._ring.items()}
        return [
            episode
            for index, world in enumerate(self.worlds)
            for episode in self._split(world, {name: values[:, index] for name, values in rows.items()})
        ]

    def _split(self, world: int, rows: dict[str, Tensor]) -> Iterator[Episode]:
        """Cut one world's rows, each ``(T, ...)``, where an episode begins."""
        if not rows or len(rows["step"]) == 0:
            return
        number, step = rows.pop("number"), rows.pop("step")
        begins = (number[1:] != number[:-1]) | (step[1:] <= step[:-1])
        lengths = torch.diff(torch.nonzero(begins).flatten() + 1, prepend=torch.tensor([0]),
                             append=torch.tensor([len(step)]))  # fmt: skip
        start = 0
        for length in lengths.tolist():
            part = {name: values[start : start + length].clone() for name, values in rows.items()}
            ignored = part.pop("ignored", None)
            if ignored is not None and ignored[-1]:
                part = {name: values if name in _OF_STATES else values[:-1] for name, values in part.items()}
            yield Episode(world=world, number=int(number[start]), first_step=int(step[start]), **part)
            start += length

    def save(self, folder: Path | str, *, film: bool = False, camera: str | None = None) -> list[Path]:
        """Write each episode as ``world0-episode3.safetensors`` and, if asked, its film beside it.

        A file holds the tensors of `Episode`; its metadata say world, number, first_step, task, seed and control_dt
        [s].

        Args:
            folder: Where to; made where it is missing.
            film: Whether to make films (MP4), by OpenGL where it starts and else by ray casting.
            camera: Camera of the task's model; its first one when None.

        Returns:
            The files written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        episodes, files, task = self.episodes(), [], self._batch.task
        for episode in episodes:
            path = folder / f"world{episode.world}-episode{episode.number}.safetensors"
            fields = asdict(episode)
            tensors = {name: value.contiguous() for name, value in fields.items() if isinstance(value, Tensor)}
            about = {name: fields[name] for name in ("world", "number", "first_step")}
            about |= {"task": task.name, "seed": self._batch.seed, "control_dt": task.control_dt}
            save_file(tensors, path, metadata={name: str(value) for name, value in about.items()})
            files.append(path)
        return files + (self._films(episodes, folder, camera) if film else [])

    def _films(self, episodes: list[Episode], folder: Path, camera: str | None) -> list[Path]:
        from fermo.envs.rendering.trajectory import make_renderer
        from fermo.envs.rendering.video import write_mp4

        task = self._batch.task
        renderer = make_renderer(task.picture_model(), camera=camera)
        every = max(1, round(task.spec.rate_hz / _FILM_RATE))
        return [
            write_mp4(
                folder / f"world{episode.world}-episode{episode.number}.mp4",
                renderer.frames(episode.qpos[::every].numpy()),
                task.spec.rate_hz / every,
            )
            for episode in episodes
        ]
