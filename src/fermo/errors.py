"""Errors a user can act on: each says what was wrong, what exists, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FermoError(Exception):
    """A mistake or fault the user can mend; the command line prints its one line and exits with status 2."""


def unknown_name(kind: str, name: str, choices: Iterable[str]) -> FermoError:
    """The error for a name that is not in a registry, with the nearest one suggested.

    Args:
        kind: What the name names, for example ``"task"``.
        name: What the user wrote.
        choices: Every name that would have been accepted.
    """
    choices = sorted(choices)
    near = difflib.get_close_matches(name.lower(), [choice.lower() for choice in choices], n=1, cutoff=0.5)
    guess = next((choice for choice in choices if near and choice.lower() == near[0]), None)
    hint = f"did you mean {guess!r}? " if guess else ""
    return FermoError(f"unknown {kind} {name!r}: {hint}choose from {', '.join(choices)}")
