"""Writes demonstrations as a LeRobotDataset v3, an episode at a time, and shows the folder only once it is complete."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike

from fermo.errors import FermoError, unknown_name
from fermo.signal import PlantSpec
from fermo.training.data import lerobot_v3 as v3
from fermo.training.data.tables import write_frames, write_table
from fermo.training.files import new_folder, write_json

_KINDS = {"b": ("bool", np.bool_), "i": ("int64", np.int64), "u": ("int64", np.int64), "f": ("float32", np.float32)}


class DatasetWriter:
    """``with DatasetWriter(folder, spec=..., robot_type=..., tasks=(...,)) as writer: writer.add_episode(...)``.

    Everything goes to a temporary folder that becomes `folder` when the block ends well; otherwise nothing is left.

    Args:
        folder: Must not exist.
        spec: The plant that was recorded; its rate is the dataset's fps.
        robot_type: As LeRobot understands it, for example ``"so101"``.
        tasks: Every instruction an episode may carry, in plain words.
        file_mb: Data files are closed before they would outgrow this [MB, uncompressed].

    Raises:
        FermoError: `folder` exists, the plant has no observation or no command, or no task is given.
    """

    def __init__(self, folder: Path | str, *, spec: PlantSpec, robot_type: str, tasks: tuple[str, ...],
                 file_mb: int = v3.DATA_FILE_MB) -> None:  # fmt: skip
        if not spec.observation_size or not spec.command_size:
            raise FermoError("a dataset needs a plant with at least one observation and one command")
        if not tasks or len(set(tasks)) != len(tasks):
            raise FermoError(f"a dataset needs at least one task, each once; got {list(tasks)}")
        self.folder, self.spec, self.robot_type, self.tasks = Path(folder), spec, robot_type, tuple(tasks)
        self._file_mb = file_mb
        self._features: dict[str, v3.Feature] = {}
        self._pending: list[dict[str, np.ndarray]] = []
        self._pending_bytes = 0
        self._rows: list[dict[str, Any]] = []
        self._written: list[dict[str, np.ndarray]] = []  # kept, since quantiles over all frames need all frames
        self._frames = self._files = 0
        self._stack = ExitStack()

    def __enter__(self) -> DatasetWriter:
        self._root = self._stack.enter_context(new_folder(self.folder))
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        if kind is None:
            self._stack.callback(self._finish)  # inside the stack, so that its errors clear the temporary folder too
        self._stack.__exit__(kind, value, trace)

    def add_episode(self, observations: ArrayLike, actions: ArrayLike, *, success: bool, task: str,
                    extras: Mapping[str, ArrayLike] | None = None) -> int:  # fmt: skip
        """Append one episode.

        Args:
            observations: Shape ``(T, observation_size)``, in the spec's units; row t was seen before action t.
            actions: Shape ``(T, command_size)``.
            success: Whether the episode ended well; stored a row an episode, and in the last frame's ``next.success``.
            task: One of the writer's tasks.
            extras: More columns, ``(T,)`` or ``(T, k)``, such as ``"next.reward"``; the same ones in every episode.

        Returns:
            The episode's index.

        Raises:
            FermoError: A wrong width or length, NaN or infinity, no frames, an unknown task, or other extras than
                the first episode had.
        """
        if task not in self.tasks:
            raise unknown_name("task", task, self.tasks)
        number = len(self._rows)
        columns = {v3.STATE: _float32(observations), v3.ACTION: _float32(actions)}
        frames = len(columns[v3.STATE])
        columns[v3.DONE] = np.arange(frames) == frames - 1
        columns[v3.SUCCESS] = columns[v3.DONE] & bool(success)
        columns |= {key: _extra(key, value) for key, value in (extras or {}).items()}
        self._features = self._features or _declare(self.spec, columns)
        _check(number, columns, self._features)
        columns |= self._bookkeeping(number, frames, self.tasks.index(task))
        self._append(columns, {"episode_index": number, "tasks": [task], "length": frames, "success": bool(success)})
        return number

    def _bookkeeping(self, number: int, frames: int, task_index: int) -> dict[str, np.ndarray]:
        frame_index = np.arange(frames)
        return {
            "timestamp": (frame_index / self.spec.rate_hz).astype(np.float32),
            "frame_index": frame_index,
            "episode_index": np.full(frames, number),
            "index": self._frames + frame_index,
            "task_index": np.full(frames, task_index),
        }

    def _append(self, columns: dict[str, np.ndarray], row: dict[str, Any]) -> None:
        size = sum(array.nbytes for array in columns.values())
        if self._pending and self._pending_bytes + size > self._file_mb * 2**20:
            self._flush()
        chunk, file = divmod(self._files, v3.FILES_IN_CHUNK)
        place = {
            "data/chunk_index": chunk, "data/file_index": file,
            "dataset_from_index": self._frames, "dataset_to_index": self._frames + row["length"],
            "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
        }  # fmt: skip
        measured = {
            f"stats/{key}/{name}": value.tolist()
            for key in self._features
            for name, value in v3.statistics(columns[key]).items()
        }
        self._rows.append({**row, **place, **measured})
        self._pending.append(columns)
        self._pending_bytes += size
        self._frames += row["length"]

    def _flush(self) -> None:
        """Write the pending episodes as one data file."""
        columns = {key: np.concatenate([episode[key] for episode in self._pending]) for key in self._features}
        chunk, file = divmod(self._files, v3.FILES_IN_CHUNK)
        write_frames(self._root / v3.DATA_PATH.format(chunk_index=chunk, file_index=file), columns, self._features)
        self._written.append(columns)
        self._pending, self._pending_bytes = [], 0
        self._files += 1

    def _finish(self) -> None:
        """Write what is pending, then the ``meta`` folder."""
        if not self._rows:
            raise FermoError(f"no episode was added, so {self.folder} was not written")
        self._flush()
        columns = {**v3.EPISODE_COLUMNS, "success": pa.bool_(), **v3.statistics_columns(self._features)}
        episodes = pa.Table.from_pylist(self._rows, schema=pa.schema(list(columns.items())))
        write_table(self._root / v3.EPISODES_PATH.format(chunk_index=0, file_index=0), episodes)
        write_table(self._root / v3.TASKS_PATH, v3.tasks_table(self.tasks))
        whole = {key: np.concatenate([file[key] for file in self._written]) for key in self._features}
        write_json(self._root / v3.STATS_PATH, {key: v3.statistics(array) for key, array in whole.items()})
        write_json(self._root / v3.SPEC_PATH, {"plant": self.spec.to_json()})
        write_json(self._root / v3.INFO_PATH, v3.info(
            fps=self.spec.rate_hz, robot_type=self.robot_type, features=self._features, episodes=len(self._rows),
            frames=self._frames, tasks=len(self.tasks), file_mb=self._file_mb,
        ))  # fmt: skip


def _declare(spec: PlantSpec, columns: Mapping[str, np.ndarray]) -> dict[str, v3.Feature]:
    """The dataset's features, from the plant and the first episode's extras."""
    features = v3.features_of(spec)
    for key, array in columns.items():
        if key not in features:
            width = 1 if array.ndim == 1 else array.shape[1]
            features[key] = v3.Feature(dtype=_KINDS[array.dtype.kind][0], width=width)
    return {**features, **v3.BOOKKEEPING}


def _check(number: int, columns: Mapping[str, np.ndarray], features: Mapping[str, v3.Feature]) -> None:
    """Raise unless an episode has the dataset's columns, all of one length, finite and not empty."""
    missing = [key for key in features if key not in columns and key not in v3.BOOKKEEPING]
    unknown = [key for key in columns if key not in features]
    if missing or unknown:
        wrong = f"lacks {missing[0]!r}" if missing else f"brings {unknown[0]!r}"
        raise FermoError(f"episode {number} {wrong}, but all episodes must have the same columns as the first")
    frames = len(columns[v3.STATE])
    if not frames:
        raise FermoError(f"episode {number} has no frames")
    for key, array in columns.items():
        width, expected = (1 if array.ndim == 1 else array.shape[-1]), features[key]
        if array.ndim > 2 or len(array) != frames or width != expected.width:
            want = (frames, expected.width)
            raise FermoError(f"episode {number}: {key!r} has shape {array.shape}, the dataset needs {want}")
        if _KINDS[array.dtype.kind][0] != expected.dtype:
            raise FermoError(f"episode {number}: {key!r} is {array.dtype}, the dataset has {expected.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            frame = int(np.argwhere(~np.isfinite(array))[0, 0])
            raise FermoError(f"episode {number}: {key!r} is not finite at frame {frame}")


def _float32(array: ArrayLike) -> np.ndarray:
    with np.errstate(over="ignore"):  # an overflow becomes an infinity, which `_check` reports
        return np.atleast_1d(np.asarray(array)).astype(np.float32)


def _extra(key: str, array: ArrayLike) -> np.ndarray:
    value = np.atleast_1d(np.asarray(array))
    if "/" in key or key in v3.BOOKKEEPING or key in (v3.STATE, v3.ACTION, v3.DONE, v3.SUCCESS):
        raise FermoError(f"{key!r} cannot name an extra column: it is taken, or holds a '/'")
    if value.dtype.kind not in _KINDS:
        raise FermoError(f"extra column {key!r} is {value.dtype}; it must be boolean, integer or floating")
    with np.errstate(over="ignore"):
        return value.astype(_KINDS[value.dtype.kind][1])
