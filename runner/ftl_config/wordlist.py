"""Lists of names, written as text."""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """The names in a text, separated by spaces or lines: long tables of keys read better without quotes and commas."""
    return tuple(text.split())
