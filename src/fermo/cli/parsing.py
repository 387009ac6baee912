"""Arguments into frozen dataclasses by tyro, with every mistake told in one line."""

from __future__ import annotations

import contextlib
import difflib
import io
import itertools
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

from fermo.errors import FermoError

Options = TypeVar("Options")


def parse(options: type[Options], command: str, arguments: Sequence[str]) -> Options:
    """`arguments` as an `options`; ``--help`` prints and exits with status 0.

    Raises:
        FermoError: An argument that does not exist, is missing, or has a value that its field refuses.
    """
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(options, prog=f"fermo {command}", args=list(arguments))
    except SystemExit as end:
        if not end.code:
            raise
        line = _one_line(told.getvalue())
        if "did you mean" not in line and (unknown := re.search(r"unrecognized options: (--[\w.-]+)", line)):
            line += _nearest(unknown.group(1), options)
        raise FermoError(f"{line}; see fermo {command} --help") from None
    except ValueError as error:  # a config that checks itself
        raise FermoError(str(error)) from None


def existing_folder(path: Path, what: str) -> Path:
    """`path` if it is a folder; else a `FermoError` that suggests the nearest name beside it."""
    if path.is_dir():
        return path
    beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f"; did you mean {path.parent / near[0]}?" if near else ""
    raise FermoError(f"there is no {what} folder {path}{hint}")


def existing_checkpoint(path: Path) -> Path:
    """`path` if it is a whole checkpoint; else a `FermoError`, before anything that takes seconds is loaded."""
    from fermo.policies.checkpoint_header import read_header

    read_header(existing_folder(path, "checkpoint"))
    return path


def _nearest(flag: str, options: type[Any]) -> str:
    """A hint at the nearest option where tyro, which weighs the parts of a dotted name alone, has none."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
        tyro.cli(options, args=["--help"])
    near = difflib.get_close_matches(flag, set(re.findall(r"--[a-z][\w.-]*", told.getvalue())), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _one_line(box: str) -> str:
    """The message of tyro's box, without title, frame and help text, and the nearest option where it names one.

    The box is a title, the message, a rule and advice; without a UTF-8 terminal it is drawn with hyphens or nothing.
    """
    frame = "│╭╮╰╯ "
    body = ["" if set(line) <= set(f"{frame}─-") else line.strip(frame) for line in box.splitlines()]
    parts = [" ".join(group) for filled, group in itertools.groupby(body[1:], key=bool) if filled]
    if not parts:
        return "the arguments do not fit"
    near = re.search(r"Perhaps you meant:.*?(--[\w.-]+)", " ".join(parts))
    hint = f"; did you mean {near.group(1)}?" if near else ""
    return parts[0][0].lower() + parts[0][1:].rstrip(".") + hint
