"""A source that blocks, read so that its reader can look up in between (see `Backend.logs`)."""

from __future__ import annotations

import queue
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_IDLE_S = 0.2
_MAX_WAITING = 10_000


def with_idle(items: Iterable[T]) -> Iterator[T | None]:
    """The items as they come, and None five times a second while none does. What reading them raises is raised here."""
    waiting: queue.Queue[tuple[T | None, BaseException | None, bool]] = queue.Queue(maxsize=_MAX_WAITING)

    def read() -> None:
        try:
            for item in items:
                waiting.put((item, None, False))
        except BaseException as error:
            waiting.put((None, error, True))
        else:
            waiting.put((None, None, True))

    threading.Thread(target=read, daemon=True, name="ftl-idle-reader").start()
    while True:
        try:
            item, error, over = waiting.get(timeout=_IDLE_S)
        except queue.Empty:
            yield None
            continue
        if error is not None:
            raise error
        if over:
            return
        yield item


def chunk_lines(chunks: Iterable[str | None]) -> Iterator[str | None]:
    """Lines of a text that comes in pieces, with None as `with_idle` has it."""
    rest = ""
    for chunk in with_idle(chunks):
        if chunk is None:
            yield None
            continue
        *whole, rest = (rest + chunk).split("\n")
        yield from whole
    if rest:
        yield rest


def command_lines(argv: Sequence[str], *, stderr: int = subprocess.STDOUT) -> Iterator[str | None]:
    """Lines of a command's output, both streams unless ``stderr`` goes elsewhere, with None as `with_idle` has it.

    The command is ended when the caller stops reading.
    """
    process = subprocess.Popen(
        list(argv), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=stderr, start_new_session=True
    )
    assert process.stdout is not None
    try:
        for line in with_idle(process.stdout):
            yield None if line is None else line.decode("utf-8", errors="replace").rstrip("\r\n")
    finally:
        process.kill()
        process.wait()
