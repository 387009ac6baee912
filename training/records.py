"""Frozen dataclasses to JSON and back, with errors that name the key."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, TypeVar

from fermo.errors import FermoError

Record = TypeVar("Record")


def from_json(kind: type[Record], data: Any, where: str, *, only_known: bool = False) -> Record:
    """A dataclass from what `fermo.training.files.plain` made of it.

    Fields may be numbers, strings, booleans, other dataclasses, ``tuple[X, ...]`` and ``X | None``.

    Args:
        kind: The dataclass.
        data: Parsed JSON.
        where: Names the data in errors, a file for example.
        only_known: Read a larger record's part: keys that `kind` does not have are passed over, at every depth.

    Raises:
        FermoError: A key is missing, unknown or holds the wrong type, or the dataclass itself refuses the values.
    """
    if not isinstance(data, dict):
        raise FermoError(f"{where}: expected an object, found {type(data).__name__}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(typing.cast(Any, kind))}
    data = {name: value for name, value in data.items() if name in fields or not only_known}
    unknown = sorted(data.keys() - fields.keys())
    required = {name for name, field in fields.items() if field.default is dataclasses.MISSING}
    missing = sorted(required - data.keys())
    if unknown or missing:
        wrong = f"lacks key {missing[0]!r}" if missing else f"has the unknown key {unknown[0]!r}"
        raise FermoError(f"{where} {wrong}; it should have {', '.join(fields)}")
    values = {name: _value(hints[name], value, f"{where}: {name}", only_known) for name, value in data.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise FermoError(f"{where}: {error}") from None


def _value(hint: Any, value: Any, where: str, only_known: bool) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = next(argument for argument in arguments if argument is not type(None))
        return None if value is None else _value(inner, value, where, only_known)
    if origin is tuple:
        if not isinstance(value, list):
            raise FermoError(f"{where}: expected a list, found {type(value).__name__}")
        return tuple(_value(arguments[0], item, f"{where}[{index}]", only_known) for index, item in enumerate(value))
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where, only_known=only_known)
    accepted = (int, float) if hint is float else hint
    if not isinstance(value, accepted) or (isinstance(value, bool) and hint is not bool):
        raise FermoError(f"{where}: expected {hint.__name__}, found {value!r}")
    return float(value) if hint is float else value
