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
    """Write a parquet file, compressed as LeRobot's are, with a checksum on each page."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="snappy", write_page_checksum=True)


def read_table(path: Path, columns: list[str] | None = None) -> pa.Table:
    """Read a parquet file. Raises `FermoError` when it is missing, truncated, damaged or lacks a column."""
    if not path.is_file():
        raise FermoError(f"{path} does not exist; the dataset is incomplete, record it again")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            missing = [name for name in columns or () if name not in file.schema_arrow.names]
            if missing:
                raise FermoError(f"{path} has no column {missing[0]!r}; it has {', '.join(file.schema_arrow.names)}")
            table = file.read(columns)
            table.validate(full=True)
            return table
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:  # a damaged header gives any of them
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


def require_column(table: pa.Table, name: str, kind: pa.DataType, path: Path) -> None:
    """Raise `FermoError` unless a column is there, of type `kind` (a list may name its items) and has no nulls."""
    if name not in table.schema.names or not _same(table.schema.field(name).type, kind):
        raise FermoError(f"{path}: column {name!r} is missing or not {kind}")
    column = table[name].combine_chunks()
    if column.null_count or (pa.types.is_list(kind) and column.flatten().null_count):
        raise FermoError(f"{path}: column {name!r} holds nulls")


def _same(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return found.value_type == wanted.value_type
    return found == wanted


def _arrow(array: np.ndarray, feature: Feature) -> pa.Array:
    if feature.width == 1:
        return pa.array(array.reshape(-1), feature.arrow)
    return pa.FixedSizeListArray.from_arrays(pa.array(array.reshape(-1)), feature.width)
