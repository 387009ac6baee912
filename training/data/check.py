"""Checks a dataset against the LeRobotDataset v3 format, without LeRobot: every file, column, index and statistic."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fermo.errors import FermoError
from fermo.training.data import lerobot_v3 as v3
from fermo.training.data.reader import read_episodes, read_frames, read_info, read_spec
from fermo.training.data.tables import read_table, require_column
from fermo.training.files import read_json


def check_format(folder: Path | str) -> None:
    """Raise on the first thing in `folder` that is not as the format, or as another of its files, says.

    Raises:
        FermoError: One line that names the file and the column or key, what it holds and what it should.
    """
    folder = Path(folder)
    info = _check_info(folder)
    features: dict[str, v3.Feature] = info["features"]
    read_spec(folder, features)
    tasks = _check_tasks(folder, info)
    episodes = read_episodes(folder)
    rows = _check_episodes(folder, episodes, info, tasks)
    files = read_frames(folder, features)
    _check_files(folder, files, rows)
    frames = {key: np.concatenate([columns[key] for _, columns in files]) for key in features}
    _check_frames(folder, frames, rows, info, tasks)
    _check_statistics(folder, frames, episodes, rows)


def _check_info(folder: Path) -> dict[str, Any]:
    info, path = read_info(folder), folder / v3.INFO_PATH
    expected = {"total_episodes": int, "total_frames": int, "total_tasks": int, "chunks_size": int,
                "data_files_size_in_mb": int, "video_files_size_in_mb": int, "robot_type": str, "data_path": str,
                "splits": dict, "fps": (int, float)}  # fmt: skip
    for key, kind in expected.items():
        if not isinstance(info.get(key), kind) or isinstance(info[key], bool):
            raise FermoError(f"{path}: key {key!r} is missing or of the wrong type")
    if info["fps"] <= 0:
        raise FermoError(f"{path}: key 'fps' is {info['fps']}, it must be positive")
    if info["data_path"] != v3.DATA_PATH:
        raise FermoError(f"{path}: key 'data_path' is {info['data_path']!r}, the format has {v3.DATA_PATH!r}")
    if info.get("video_path") is not None:
        raise FermoError(f"{path}: key 'video_path' is {info['video_path']!r}, but no feature is a video")
    if info["splits"] != {"train": f"0:{info['total_episodes']}"}:
        raise FermoError(f"{path}: key 'splits' does not cover {info['total_episodes']} episodes")
    for key, feature in v3.BOOKKEEPING.items():
        if info["features"].get(key) != feature:
            raise FermoError(f"{path}: feature {key!r} is missing or not {feature.dtype}")
    for key, feature in info["features"].items():
        if feature.names is not None and len(feature.names) != feature.width:
            raise FermoError(f"{path}: feature {key!r} has {len(feature.names)} names for {feature.width} elements")
        if "/" in key:
            raise FermoError(f"{path}: feature {key!r} holds a '/'")
    return info


def _check_tasks(folder: Path, info: dict[str, Any]) -> list[str]:
    path = folder / v3.TASKS_PATH
    table = read_table(path)
    index = _pandas_index(table)
    if index is None or index not in table.schema.names:
        raise FermoError(f"{path}: the pandas metadata name no index column, by which LeRobot finds a task")
    require_column(table, "task_index", pa.int64(), path)
    require_column(table, index, pa.string(), path)
    if table["task_index"].to_pylist() != list(range(info["total_tasks"])):
        raise FermoError(f"{path}: column 'task_index' does not count 0 to {info['total_tasks'] - 1}")
    return table[index].to_pylist()


def _pandas_index(table: pa.Table) -> str | None:
    """Which column is the table's index for pandas, None when its metadata do not say."""
    try:
        (index,) = json.loads((table.schema.metadata or {})[b"pandas"])["index_columns"]
    except (KeyError, TypeError, ValueError):
        return None
    return index if isinstance(index, str) else None


def _check_episodes(folder: Path, episodes: pa.Table, info: dict[str, Any], tasks: list[str]) -> dict[str, Any]:
    path = folder / "meta/episodes"
    rows = episodes.select([*v3.EPISODE_COLUMNS, "success"]).to_pydict()
    lengths = np.array(rows["length"], dtype=np.int64)
    ends = np.cumsum(lengths)
    expected = {
        "episode_index": np.arange(info["total_episodes"]),
        "dataset_from_index": ends - lengths,
        "dataset_to_index": ends,
    }
    for column, values in expected.items():
        _same(path, column, np.array(rows[column]), values)
    if lengths.min(initial=1) < 1 or lengths.sum() != info["total_frames"]:
        raise FermoError(f"{path}: column 'length' sums to {lengths.sum()}, {v3.INFO_PATH} says {info['total_frames']}")
    unknown = {task for episode in rows["tasks"] for task in episode} - set(tasks)
    if unknown or not all(rows["tasks"]):
        found = sorted(unknown)[:1] or "an empty list"
        raise FermoError(f"{path}: column 'tasks' holds {found}, which is not in {v3.TASKS_PATH}")
    for column, kind in v3.statistics_columns(info["features"]).items():
        require_column(episodes, column, kind, path)
    return rows


def _check_files(folder: Path, files: list, rows: dict[str, Any]) -> None:
    """Every data file is where the episodes say, and holds the episodes they say."""
    expected: dict[Path, list[int]] = {}
    for number, place in enumerate(zip(rows["data/chunk_index"], rows["data/file_index"], strict=True)):
        path = folder / v3.DATA_PATH.format(chunk_index=place[0], file_index=place[1])
        expected.setdefault(path, []).append(number)
    if list(expected) != [path for path, _ in files]:
        odd = sorted(set(expected) ^ {path for path, _ in files})
        name = odd[0] if odd else folder / "data"
        raise FermoError(f"{name}: the data files and the columns 'data/chunk_index', 'data/file_index' disagree")
    for path, columns in files:
        wanted = [number for number in expected[path] for _ in range(rows["length"][number])]
        _same(path, "episode_index", columns["episode_index"], np.array(wanted))


def _check_frames(folder: Path, frames: dict[str, np.ndarray], rows: dict[str, Any], info: dict[str, Any],
                  tasks: list[str]) -> None:  # fmt: skip
    path = folder / "data"
    lengths = np.array(rows["length"])
    ends = np.cumsum(lengths)
    frame_index = np.arange(lengths.sum()) - np.repeat(ends - lengths, lengths)
    last = frame_index == np.repeat(lengths, lengths) - 1
    _same(path, "index", frames["index"], np.arange(lengths.sum()))
    _same(path, "frame_index", frames["frame_index"], frame_index)
    _same(path, "timestamp", frames["timestamp"], (frame_index / info["fps"]).astype(np.float32), tolerance=1e-4)
    own = [[tasks.index(task) for task in episode] for episode in rows["tasks"]]
    allowed = np.array([frames["task_index"][start] in own[k] for k, start in enumerate(ends - lengths)])
    if not allowed.all():
        raise FermoError(f"{path}: column 'task_index' of episode {int(np.argmin(allowed))} is not one of its tasks")
    _same(path, v3.DONE, frames[v3.DONE], last)
    _same(path, v3.SUCCESS, frames[v3.SUCCESS], last & np.repeat(rows["success"], lengths))
    for key, array in frames.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise FermoError(f"{path}: column {key!r} is not finite at frame {np.argwhere(~np.isfinite(array))[0, 0]}")


def _check_statistics(folder: Path, frames: dict[str, np.ndarray], episodes: pa.Table, rows: dict[str, Any]) -> None:
    stored = read_json(folder / v3.STATS_PATH)
    bounds = np.concatenate([[0], np.cumsum(rows["length"])])
    for key, array in frames.items():
        if not isinstance(stored.get(key), dict):
            raise FermoError(f"{folder / v3.STATS_PATH}: feature {key!r} is missing")
        for name, value in v3.statistics(array).items():
            found = np.array(stored[key].get(name, []), dtype=np.float64)
            _same(folder / v3.STATS_PATH, f"{key}.{name}", found, value, tolerance=1e-6)
        parts = [v3.statistics(array[start:end]) for start, end in pairwise(bounds)]
        for name in v3.STATISTICS:
            column = f"stats/{key}/{name}"
            try:
                found = np.array(episodes[column].to_pylist(), dtype=np.float64)
            except ValueError:
                raise FermoError(f"{folder / 'meta/episodes'}: column {column!r} has uneven rows") from None
            _same(folder / "meta/episodes", column, found, np.stack([part[name] for part in parts]), tolerance=1e-6)


def _same(path: Path, column: str, found: np.ndarray, expected: np.ndarray, tolerance: float = 0.0) -> None:
    if found.shape != expected.shape:
        raise FermoError(f"{path}: {column!r} has shape {found.shape}, the rest of the dataset needs {expected.shape}")
    close = np.isclose(found, expected, rtol=tolerance, atol=tolerance)
    if not close.all():
        place = tuple(np.argwhere(~close)[0])
        row = int(place[0])
        raise FermoError(f"{path}: {column!r} is {found[place]} at row {row}, it should be {expected[place]}")
