"""What a checkpoint folder says about itself; reading it loads neither torch nor the weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from fermo.errors import FermoError
from fermo.signal import PlantSpec

FORMAT = 1
REMEDY = "copy the checkpoint again or train anew"


def read_header(folder: str | Path) -> dict[str, Any]:
    """``config.json`` of a checkpoint, after checking the other files' hashes; needs no weights in memory.

    Raises:
        FermoError: A file is missing, damaged, or changed since it was written.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FermoError(f"{folder} is not a checkpoint folder: give the folder that holds config.json")
    header = _read_json(folder / "config.json")
    missing = [key for key in ("format", "family", "config", "sha256") if key not in header]
    if missing:
        raise FermoError(f"{folder / 'config.json'} lacks {', '.join(missing)}; {REMEDY}")
    if header["format"] != FORMAT:
        found = f"{folder} has checkpoint format {header['format']}"
        raise FermoError(f"{found}, this fermo reads {FORMAT}: install a matching fermo")
    for name in ("model.safetensors", "signals.json"):
        path = folder / name
        if not path.is_file():
            raise FermoError(f"{path} is missing; {REMEDY}")
        if sha256_of(path) != header["sha256"].get(name):
            raise FermoError(f"{path} is damaged or was changed after it was written (hash mismatch); {REMEDY}")
    return header


def read_spec(folder: str | Path) -> PlantSpec:
    """The plant a checkpoint was trained for. Raises `FermoError` when ``signals.json`` cannot be read."""
    path = Path(folder) / "signals.json"
    try:
        return PlantSpec.from_json(_read_json(path)["plant"])
    except (KeyError, TypeError, ValueError) as error:
        raise FermoError(f"{path} does not describe a plant: {error}; {REMEDY}") from error


def sha256_of(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FermoError(f"{path} is missing; {REMEDY}") from error
    except (OSError, ValueError) as error:
        raise FermoError(f"{path} cannot be read: {first_line(error)}; {REMEDY}") from error
    if not isinstance(data, dict):
        raise FermoError(f"{path} is not a JSON object; {REMEDY}")
    return data


def first_line(error: BaseException) -> str:
    """The line of an error's text that says what was wrong; safetensors and torch begin with a title."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 else (lines[0] if lines else type(error).__name__)
