"""Between NumPy arrays and parquet columns, with errors that name the file and the column."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fermo.errors import FermoError
from fermo.training.data.lerobot_v3 import Feature


def write_frames(path: Path, columns: Mapping[str, np.ndarray], features: Mapping[str, Feature]) -> None:
    """Write one data file.

    Args:
        path: Where; its folder is made.
        columns: Feature to values, shape ``(T,)`` or ``(T, width)``.
        features: Which columns, in this order.
    """
    arrays = [_arrow(columns[key], feature) for key, feature in features.items()]
    write_table(path, pa.Table.from_arrays(arrays, schema=pa.schema([(k, f.arrow) for k, f in features.items()])))


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file, compressed as LeRobot's are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="snappy")


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a parquet file. Raises `FermoError` when it is missing, truncated, damaged or lacks a column."""
    if not path.is_file():
        raise FermoError(f"{path} does not exist; the dataset is incomplete, record it again")
    try:
        with pq.ParquetFile(path) as file:
            missing = [name for name in columns or () if name not in file.schema_arrow.names]
            if missing:
                raise FermoError(f"{path} has no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}")
            return file.read(columns)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FermoError(f"{path} is not a readable parquet file ({reason}); record the dataset again") from None


def values(table: pa.Table, name: str, feature: Feature, path: Path) -> np.ndarray:
    """One column as an array, shape ``(T,)`` or ``(T, width)``.

    Raises:
        FermoError: The column has another type than `feature`, or holds nulls.
    """
    column = table[name]
    if column.type != feature.arrow:
        raise FermoError(f"{path}: column {name!r} is {column.type}, the format wants {feature.arrow}")
    array = column.combine_chunks()
    leaves = array if feature.width == 1 else array.flatten()
    if array.null_count or leaves.null_count:
        raise FermoError(f"{path}: column {name!r} holds nulls")
    numbers = leaves.to_numpy(zero_copy_only=False)
    return numbers if feature.width == 1 else numbers.reshape(-1, feature.width)


def _arrow(array: np.ndarray, feature: Feature) -> pa.Array:
    if feature.width == 1:
        return pa.array(array.reshape(-1), feature.arrow)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), feature.width)
