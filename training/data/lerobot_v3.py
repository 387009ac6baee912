"""LeRobotDataset v3.0 on disk: where files lie, which columns they have, and of which types.

    meta/info.json                                what the dataset holds, and the features (columns)
    meta/stats.json                               statistics of each feature over all frames
    meta/tasks.parquet                            task text to task_index, as pandas keeps an index
    meta/episodes/chunk-000/file-000.parquet      one row an episode: where it lies, its tasks, its statistics
    data/chunk-000/file-000.parquet               one row a frame; whole episodes, several to a file
    meta/fermo.json                               ours: the plant's signals with shapes, SI units and bounds

Read off LeRobot 0.4.4, whose own `LeRobotDataset` opens what `DatasetWriter` writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from fermo.errors import FermoError
from fermo.signal import PlantSpec, Signal

VERSION = "v3.0"
FILE = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{FILE}.parquet"
EPISODES_PATH = f"meta/episodes/{FILE}.parquet"
INFO_PATH = "meta/info.json"
STATS_PATH = "meta/stats.json"
TASKS_PATH = "meta/tasks.parquet"
SPEC_PATH = "meta/fermo.json"
FILES_IN_CHUNK = 1000
DATA_FILE_MB = 100
VIDEO_FILE_MB = 200  # info.json always states it, also when there are no videos

STATE, ACTION, DONE, SUCCESS = "observation.state", "action", "next.done", "next.success"
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
STATISTICS = ("min", "max", "mean", "std", "count", *QUANTILES)


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column of the frames.

    Attributes:
        dtype: ``"float32"``, ``"float64"``, ``"int64"`` or ``"bool"``.
        width: Elements in a frame; 1 is stored as a plain column, more as a fixed-size list.
        names: One name an element, or None.
    """

    dtype: str
    width: int = 1
    names: tuple[str, ...] | None = None

    @property
    def arrow(self) -> pa.DataType:
        """The column's type in the parquet file."""
        kind = {"bool": pa.bool_(), "int64": pa.int64(), "float32": pa.float32(), "float64": pa.float64()}[self.dtype]
        return kind if self.width == 1 else pa.list_(kind, self.width)

    def to_json(self) -> dict[str, Any]:
        """As in ``info.json``."""
        return {"dtype": self.dtype, "shape": [self.width], "names": list(self.names) if self.names else None}

    @classmethod
    def from_json(cls, key: str, data: Mapping[str, Any]) -> Feature:
        """The inverse of `to_json`. Raises `FermoError` for a kind of feature this reader does not know."""
        shape, names = list(data.get("shape", [])), data.get("names")
        if data.get("dtype") not in ("bool", "int64", "float32", "float64") or len(shape) != 1:
            raise FermoError(f"feature {key!r} of dtype {data.get('dtype')} and shape {shape} is not one fermo reads")
        return cls(dtype=data["dtype"], width=int(shape[0]), names=tuple(names) if isinstance(names, list) else None)


BOOKKEEPING = {
    "timestamp": Feature(dtype="float32"),
    "frame_index": Feature(dtype="int64"),
    "episode_index": Feature(dtype="int64"),
    "index": Feature(dtype="int64"),
    "task_index": Feature(dtype="int64"),
}
"""Columns every LeRobotDataset has."""

EPISODE_COLUMNS = {
    "episode_index": pa.int64(),
    "tasks": pa.list_(pa.string()),
    "length": pa.int64(),
    "data/chunk_index": pa.int64(),
    "data/file_index": pa.int64(),
    "dataset_from_index": pa.int64(),
    "dataset_to_index": pa.int64(),
    "meta/episodes/chunk_index": pa.int64(),
    "meta/episodes/file_index": pa.int64(),
}
"""Columns every episode table has, beside ``stats/<feature>/<statistic>``; ours adds ``success``."""


def features_of(spec: PlantSpec) -> dict[str, Feature]:
    """The features every dataset of this plant has, in column order."""
    return {
        STATE: Feature(dtype="float32", width=spec.observation_size, names=element_names(spec.observations)),
        ACTION: Feature(dtype="float32", width=spec.command_size, names=element_names(spec.commands)),
        DONE: Feature(dtype="bool"),
        SUCCESS: Feature(dtype="bool"),
    }


def element_names(signals: tuple[Signal, ...]) -> tuple[str, ...]:
    """One name an element: ``"gripper"``, ``"joint_position.0"``, ``"camera_pose.2.1"``."""
    return tuple(
        ".".join([signal.name, *map(str, index)]) if signal.size > 1 else signal.name
        for signal in signals
        for index in np.ndindex(*signal.shape)
    )


def info(*, fps: float, robot_type: str, features: Mapping[str, Feature], episodes: int, frames: int, tasks: int,
         file_mb: int) -> dict[str, Any]:  # fmt: skip
    """The content of ``meta/info.json``."""
    return {
        "codebase_version": VERSION,
        "robot_type": robot_type,
        "total_episodes": episodes,
        "total_frames": frames,
        "total_tasks": tasks,
        "chunks_size": FILES_IN_CHUNK,
        "data_files_size_in_mb": file_mb,
        "video_files_size_in_mb": VIDEO_FILE_MB,
        "fps": int(fps) if float(fps).is_integer() else fps,
        "splits": {"train": f"0:{episodes}"},
        "data_path": DATA_PATH,
        "video_path": None,
        "features": {key: feature.to_json() for key, feature in features.items()},
    }


def statistics(values: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics over frames, each of shape ``(width,)``, `count` of shape ``(1,)``.

    Args:
        values: One feature, shape ``(T,)`` or ``(T, width)``.
    """
    x = values.reshape(len(values), -1).astype(np.float64)
    quantiles = np.quantile(x, list(QUANTILES.values()), axis=0)
    return {
        "min": x.min(axis=0),
        "max": x.max(axis=0),
        "mean": x.mean(axis=0),
        "std": x.std(axis=0),
        "count": np.array([len(x)]),
        **dict(zip(QUANTILES, quantiles, strict=True)),
    }


def statistics_columns(features: Mapping[str, Feature]) -> dict[str, pa.DataType]:
    """The episode table's ``stats/...`` columns."""
    return {
        f"stats/{key}/{name}": pa.list_(pa.int64() if name == "count" else pa.float64())
        for key in features
        for name in STATISTICS
    }


def tasks_table(tasks: tuple[str, ...]) -> pa.Table:
    """Tasks by text, with the schema metadata by which pandas finds the index, since LeRobot looks tasks up by it."""
    index = "__index_level_0__"
    text = {"pandas_type": "unicode", "numpy_type": "object"}
    pandas = {
        "index_columns": [index],
        "column_indexes": [{"name": None, "field_name": None, "metadata": {"encoding": "UTF-8"}, **text}],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64",
             "metadata": None},
            {"name": None, "field_name": index, "metadata": None, **text},
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }  # fmt: skip
    columns = {"task_index": pa.array(range(len(tasks)), pa.int64()), index: pa.array(tasks, pa.string())}
    return pa.table(columns).replace_schema_metadata({"pandas": json.dumps(pandas)})
