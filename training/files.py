"""Files that are whole or absent: JSON and text written to a temporary name, flushed to disk, then renamed."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from fermo.errors import FermoError


def write_text(path: Path | str, text: str) -> None:
    """Write `text` so that a reader, or a crash, meets the old file or the new one, never a part."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path | str, data: Any) -> None:
    """Write `data` as indented JSON, atomically.

    Dataclasses, paths, enums, tuples and NumPy values become plain JSON.

    Raises:
        FermoError: A number is NaN or infinite, which JSON cannot say; names where it sits.
    """
    write_text(path, json.dumps(plain(data, where=Path(path).name), indent=2, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Read a JSON file.

    Raises:
        FermoError: The file is missing, is not JSON (a truncated one, for example) or holds NaN.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except FileNotFoundError:
        raise FermoError(f"{path} does not exist") from None
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise FermoError(f"{path} cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise FermoError(f"{path} is not valid JSON ({place}); it may be truncated, so make it again") from None
    except ValueError as error:
        raise FermoError(f"{path} is not valid JSON ({error}); make it again") from None


@contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes when it does not.

    Raises:
        FermoError: `path` exists already.
    """
    path = Path(path)
    if path.exists():
        raise FermoError(f"{path} exists already; choose another folder or remove it")
    path.parent.mkdir(parents=True, exist_ok=True)
    _clear_leftovers(path)
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def plain(data: Any, where: str = "data") -> Any:
    """`data` as dictionaries, lists, strings, numbers, booleans and None.

    Raises:
        FermoError: A value has no JSON form; `where` and the keys that lead to it are in the message.
    """
    if dataclasses.is_dataclass(data) and not isinstance(data, type):
        data = {field.name: getattr(data, field.name) for field in dataclasses.fields(data)}
    if isinstance(data, Mapping):
        return {str(key): plain(value, f"{where}.{key}") for key, value in data.items()}
    if isinstance(data, np.ndarray | np.generic):
        data = data.tolist()
    if isinstance(data, list | tuple | set | frozenset):
        items = sorted(data) if isinstance(data, set | frozenset) else data
        return [plain(item, f"{where}[{index}]") for index, item in enumerate(items)]
    if isinstance(data, Enum):
        return plain(data.value, where)
    if isinstance(data, Path):
        return str(data)
    if isinstance(data, float) and not math.isfinite(data):
        raise FermoError(f"{where} is {data}, which JSON cannot say; nothing was written")
    if data is None or isinstance(data, bool | int | float | str):
        return data
    raise FermoError(f"{where} is a {type(data).__name__}, which has no JSON form; nothing was written")


def _temporary(path: Path) -> Path:
    """A hidden sibling, so that the rename stays on one file system."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _clear_leftovers(path: Path) -> None:
    """Remove the temporary folders of processes that were killed while they made `path`."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):
        owner = leftover.name.split(".")[-2]
        if owner.isdecimal() and (int(owner) == os.getpid() or not _alive(int(owner))):
            shutil.rmtree(leftover, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        pass
    return True


def _refuse_constant(name: str) -> float:
    raise ValueError(f"it holds {name}")
