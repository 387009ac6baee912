"""Arguments into frozen dataclasses by tyro, with every mistake told in one line."""

from __future__ import annotations

import contextlib
import difflib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

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
        raise FermoError(f"{_one_line(told.getvalue())}; see fermo {command} --help") from None
    except ValueError as error:  # a config that checks itself
        raise FermoError(str(error)) from None


def take_name(kind: str, arguments: Sequence[str], command: str, choices: Sequence[str]) -> tuple[str, list[str]]:
    """The leading positional argument and the rest; `FermoError` when there is none."""
    if not arguments or arguments[0].startswith("-"):
        raise FermoError(f"fermo {command} needs a {kind} first: choose from {', '.join(choices)}")
    return arguments[0], list(arguments[1:])


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether the first argument asks for help."""
    return bool(arguments) and arguments[0] in ("-h", "--help")


def existing_folder(path: Path, what: str) -> Path:
    """`path` if it is a folder; else a `FermoError` that suggests the nearest name beside it."""
    if path.is_dir():
        return path
    beside = [entry.name for entry in path.parent.iterdir() if entry.is_dir()] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, beside, n=1)
    hint = f"; did you mean {path.parent / near[0]}?" if near else ""
    raise FermoError(f"there is no {what} folder {path}{hint}")


def _one_line(box: str) -> str:
    """The message of tyro's box, without frame and help text, and the nearest option where it names one."""
    lines = [line.strip("│╭╮╰╯ ").strip() for line in box.splitlines()]
    body = [line for line in lines[1:-1] if line]
    rules = [index for index, line in enumerate(body) if set(line) <= {"─", "-"}]
    message = " ".join(body[: rules[0]] if rules else body) or "the arguments do not fit"
    near = re.search(r"Perhaps you meant:.*?(--[\w.-]+)", " ".join(body))
    hint = f"; did you mean {near.group(1)}?" if near else ""
    return message[0].lower() + message[1:] + hint
