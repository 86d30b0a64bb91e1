"""Reading a growing log file in pieces, never as a whole."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 1 << 16
_IDLE_S = 0.2
_LOOK_EVERY_S = 0.8
"""How often to ask whether the writer is done: that question may go over HTTP."""


def tail_file(path: Path, *, follow: bool, is_over: Callable[[], bool]) -> Iterator[str | None]:
    """Lines of a log file; see `Backend.logs`. A file that is not there yet is waited for when following.

    The file stays open: that it is replaced or deleted meanwhile loses nothing of what was written to it.
    """
    file = yield from _open_when_there(path, follow, is_over)
    if file is None:
        return
    with file:
        yield from _lines(file, follow, is_over)


def _open_when_there(
    path: Path, follow: bool, is_over: Callable[[], bool]
) -> Generator[str | None, None, BinaryIO | None]:
    looked = time.monotonic()
    while True:
        try:
            return path.open("rb")
        except OSError:
            if not follow:
                return None
        if time.monotonic() - looked > _LOOK_EVERY_S:
            looked = time.monotonic()
            if is_over():
                return path.open("rb") if path.exists() else None
        time.sleep(_IDLE_S)
        yield None


def _lines(file: BinaryIO, follow: bool, is_over: Callable[[], bool]) -> Iterator[str | None]:
    rest = b""
    over = not follow
    looked = time.monotonic()
    while True:
        chunk = file.read(_CHUNK_BYTES)
        if chunk:
            *whole, rest = (rest + chunk).split(b"\n")
            for line in whole:
                yield _text(line)
            continue
        if over:
            break
        if time.monotonic() - looked > _LOOK_EVERY_S:
            looked = time.monotonic()
            over = is_over()
            if over:
                continue  # whatever was written before this answer is read in the next round
        time.sleep(_IDLE_S)
        yield None
    if rest:
        yield _text(rest)


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")
