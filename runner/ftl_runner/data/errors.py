"""Errors about the user's data. Each one names the file, the row and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ftl_config import FtlError
from ftl_config.protocol import ExitCode


class DataError(FtlError):
    """Bad data: one line for the user, exit code 3."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint, int(ExitCode.BAD_DATA))

    def __reduce__(self) -> tuple[type[DataError], tuple[str, str | None]]:
        return (type(self), (self.message, self.hint))


class RowError(Exception):
    """One row cannot be used. The caller adds the place; ``hint`` says what would be right.

    ``raw`` is what stands there, where that is no row.
    """

    def __init__(self, message: str, hint: str | None = None, raw: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.raw = raw

    def __reduce__(self) -> tuple[type[RowError], tuple[str, str | None, str | None]]:
        return (type(self), (self.message, self.hint, self.raw))


def did_you_mean(given: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """``did you mean 'x'?`` for the closest known name, or None when nothing is close."""
    close = difflib.get_close_matches(given, sorted(set(known)), n=1, cutoff=cutoff)
    return f"did you mean {close[0]!r}?" if close else None
