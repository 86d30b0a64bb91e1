"""Typed access to the fields of a user's row, with errors that say what is there instead."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from ftl_runner.data.errors import RowError, did_you_mean

Row: TypeAlias = Mapping[str, Any]


def require(row: Row, name: str, what: str = "field") -> Any:
    """The value of a field that must be there and not null."""
    if name not in row:
        fields = ", ".join(map(str, row)) or "none"
        close = did_you_mean(name, map(str, row))
        hint = f"{close} " if close else ""
        raise RowError(f"no {what} {name!r} (fields: {fields})", f"{hint}name the right one with its field_... key")
    value = row[name]
    if value is None:
        raise RowError(f"{what} {name!r} is null", "fill it in or leave the row out")
    return value


def require_text(row: Row, name: str, *, allow_empty: bool = False) -> str:
    """The text of a field that must be there; empty only where that means something."""
    text = as_text(require(row, name), f"field {name!r}")
    if not allow_empty and not text.strip():
        raise RowError(f"field {name!r} is empty", "fill it in or leave the row out")
    return text


def optional_text(row: Row, name: str | None) -> str:
    """The text of a field that may be missing or null: then empty."""
    if not name or row.get(name) is None:
        return ""
    return as_text(row[name], f"field {name!r}")


def as_text(value: Any, what: str) -> str:
    """``value`` if it is text that can be encoded.

    Raises:
        RowError: another type, or half of a surrogate pair (broken escapes such as ``\\ud83d`` in JSON).
    """
    if not isinstance(value, str):
        raise RowError(f"{what} is {describe(value)}, not text", "quote it, or name another field")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise RowError(
                f"{what} holds half a character (\\u{ord(value[error.start]):04x}) at position {error.start + 1}",
                "the text was cut inside an emoji or written with broken escapes: repair it at its source",
            ) from error
    return value


def as_list(value: Any, what: str) -> list[Any]:
    """A list, or JSON text of one (columns of tools and messages often come so)."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise RowError(f"{what} is text that is not JSON: {error}", "give a list, or JSON text of one") from error
    if not isinstance(value, list | tuple):
        raise RowError(f"{what} is {describe(value)}, not a list")
    return list(value)


def describe(value: Any) -> str:
    """The kind of a JSON value in words."""
    if value is None:
        return "null"
    names = {bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
