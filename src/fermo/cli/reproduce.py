"""``fermo reproduce``: a published or claimed result, made again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fermo.cli.parsing import parse


@dataclass(frozen=True, kw_only=True)
class ReproduceOptions:
    """Run a named reproduction; without a name, list them.

    Attributes:
        name: Which one.
        budget: Seconds in CI, about an hour a cell on two cores, or what was published.
        folder: Where results go.
        resume: Keep the cells that are done.
    """

    name: Annotated[str | None, tyro.conf.Positional] = None
    budget: Literal["smoke", "small", "paper"] = "smoke"
    folder: Path = Path("reproductions")
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(ReproduceOptions, "reproduce", arguments)
    import fermo.cli.reproductions  # noqa: F401  registers them
    from fermo.training.reproduce.registry import REPRODUCTIONS

    if options.name is None:
        for reproduction in REPRODUCTIONS.values():
            print(f"{reproduction.name:<{max(map(len, REPRODUCTIONS))}}  {reproduction.title}")
        return
    from fermo.training.reproduce.run import reproduce

    print(reproduce(options.name, budget=options.budget, folder=options.folder, resume=options.resume))
