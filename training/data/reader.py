"""Reads a dataset that `DatasetWriter` wrote into arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fermo.errors import FermoError
from fermo.signal import PlantSpec
from fermo.training.data import lerobot_v3 as v3
from fermo.training.data.tables import read_table, require_column, values
from fermo.training.files import read_json


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """E episodes of F frames in all, in memory; frames of an episode are neighbours.

    Attributes:
        spec: The plant the frames were recorded on.
        observations: Shape ``(F, observation_size)``, float32, in the units of `spec`.
        actions: Shape ``(F, command_size)``, float32.
        episode_index: Which episode a frame belongs to, shape ``(F,)``, 0 to E - 1, never decreasing.
        success: Whether an episode ended well, shape ``(E,)``.
        tasks: The instruction of each episode, E long.
        extras: Further columns by name, shape ``(F,)`` or ``(F, k)``.
    """

    spec: PlantSpec
    observations: np.ndarray
    actions: np.ndarray
    episode_index: np.ndarray
    success: np.ndarray
    tasks: tuple[str, ...]
    extras: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path | str) -> Dataset:
        """Read a dataset from disk.

        Raises:
            FermoError: A file is missing, damaged, or disagrees with ``meta/info.json``; one line that names it.
        """
        folder = Path(folder)
        info = read_info(folder)
        spec = read_spec(folder, info["features"])
        frames = _concatenate(read_frames(folder, info["features"]))
        episodes = read_episodes(folder)
        columns = episodes.select(["length", "tasks", "success"]).to_pydict()
        counts = (len(episodes), len(frames["index"]))
        if counts != (info["total_episodes"], info["total_frames"]):
            said = f"{v3.INFO_PATH} says {info['total_episodes']} and {info['total_frames']}"
            raise FermoError(f"{folder} holds {counts[0]} episodes and {counts[1]} frames, but {said}; record it again")
        expected = np.repeat(np.arange(counts[0]), columns["length"])
        if not np.array_equal(frames["episode_index"], expected):
            raise FermoError(f"{folder}: frames and the lengths in meta/episodes disagree; record the dataset again")
        known = {*v3.features_of(spec), *v3.BOOKKEEPING}
        return cls(
            spec=spec,
            observations=frames[v3.STATE].reshape(counts[1], -1),
            actions=frames[v3.ACTION].reshape(counts[1], -1),
            episode_index=frames["episode_index"],
            success=np.array(columns["success"], dtype=bool),
            tasks=tuple(tasks[0] for tasks in columns["tasks"]),
            extras={key: array for key, array in frames.items() if key not in known},
        )

    def __len__(self) -> int:
        """Number of frames."""
        return len(self.observations)

    @property
    def episodes(self) -> int:
        """Number of episodes."""
        return len(self.success)

    @property
    def lengths(self) -> np.ndarray:
        """Frames of each episode, shape ``(E,)``."""
        return np.bincount(self.episode_index, minlength=self.episodes)

    def window(self, offsets: Sequence[int]) -> np.ndarray:
        """Indices of the frames around each frame, shape ``(F, len(offsets))``; past an episode's end, its end.

        Args:
            offsets: Frames later, or earlier where negative: ``(1,)`` is the successor, ``range(H)`` a chunk of H.
        """
        last = np.cumsum(self.lengths) - 1
        first = last - self.lengths + 1
        around = np.arange(len(self))[:, None] + np.asarray(offsets, dtype=np.int64)
        return np.clip(around, first[self.episode_index, None], last[self.episode_index, None])

    def select(self, keep: np.ndarray) -> Dataset:
        """The episodes where `keep`, shape ``(E,)`` bool, is true, renumbered from 0."""
        frames = keep[self.episode_index]
        renumbered = np.cumsum(keep) - 1
        return Dataset(
            spec=self.spec,
            observations=self.observations[frames],
            actions=self.actions[frames],
            episode_index=renumbered[self.episode_index[frames]],
            success=self.success[keep],
            tasks=tuple(task for task, kept in zip(self.tasks, keep, strict=True) if kept),
            extras={key: array[frames] for key, array in self.extras.items()},
        )

    def filter(self, *, success: bool) -> Dataset:
        """Only the episodes that succeeded, or only those that failed."""
        return self.select(self.success == success)


def read_info(folder: Path) -> dict[str, Any]:
    """``meta/info.json`` with `Feature` objects under ``"features"``. Raises `FermoError` unless it is version 3.0."""
    path = folder / v3.INFO_PATH
    if not path.is_file():
        raise FermoError(f"{folder} is not a LeRobotDataset: it has no {v3.INFO_PATH}")
    info = read_json(path)
    if not isinstance(info, dict) or info.get("codebase_version") != v3.VERSION:
        found = info.get("codebase_version") if isinstance(info, dict) else None
        raise FermoError(f"{path}: codebase_version is {found!r}, this reader needs {v3.VERSION!r}")
    missing = [key for key in ("total_episodes", "total_frames", "total_tasks", "fps", "features") if key not in info]
    if missing or not isinstance(info["features"], dict):
        raise FermoError(f"{path}: key {(missing or ['features'])[0]!r} is missing or of the wrong type")
    info["features"] = {key: v3.Feature.from_json(key, data) for key, data in info["features"].items()}
    return info


def read_spec(folder: Path, features: dict[str, v3.Feature]) -> PlantSpec:
    """The plant in ``meta/fermo.json``. Raises `FermoError` when it is missing or disagrees with `features`."""
    path = folder / v3.SPEC_PATH
    if not path.is_file():
        raise FermoError(f"{folder} was not recorded by fermo: it has no {v3.SPEC_PATH}, so its signals have no units")
    try:
        spec = PlantSpec.from_json(read_json(path)["plant"])
    except (KeyError, TypeError, ValueError) as error:
        raise FermoError(f"{path} does not describe a plant ({error!r}); record the dataset again") from None
    for key, feature in v3.features_of(spec).items():
        if features.get(key) != feature:
            raise FermoError(f"{path} and {v3.INFO_PATH} disagree on feature {key!r}; record the dataset again")
    return spec


def read_frames(folder: Path, features: dict[str, v3.Feature]) -> list[tuple[Path, dict[str, np.ndarray]]]:
    """Each data file in order, with its columns as arrays. Raises `FermoError`."""
    paths = sorted((folder / "data").glob("*/*.parquet"))
    if not paths:
        raise FermoError(f"{folder / 'data'} has no parquet file; record the dataset again")
    files = []
    for path in paths:
        table = read_table(path, list(features))
        files.append((path, {key: values(table, key, feature, path) for key, feature in features.items()}))
    return files


def read_episodes(folder: Path) -> pa.Table:
    """Every row of ``meta/episodes``. Raises `FermoError`."""
    paths = sorted((folder / "meta/episodes").glob("*/*.parquet"))
    if not paths:
        raise FermoError(f"{folder / 'meta/episodes'} has no parquet file; record the dataset again")
    tables = []
    for path in paths:
        table = read_table(path)
        for name, kind in {**v3.EPISODE_COLUMNS, "success": pa.bool_()}.items():
            require_column(table, name, kind, path)
        tables.append(table)
    return pa.concat_tables(tables)


def _concatenate(files: list[tuple[Path, dict[str, np.ndarray]]]) -> dict[str, np.ndarray]:
    return {key: np.concatenate([columns[key] for _, columns in files]) for key in files[0][1]}
