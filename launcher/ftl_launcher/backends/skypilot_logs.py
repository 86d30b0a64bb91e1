"""Lines out of SkyPilot's log streams, which end with a lost connection, and with the machines of one attempt."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator

from ftl_launcher.idle import with_idle

_RETRY_S = 3.0


def stream_lines(
    open_stream: Callable[[], Iterable[str | None]], is_over: Callable[[], bool], *, follow: bool
) -> Iterator[str | None]:
    """Lines of a run; see `Backend.logs`.

    A stream that ends before the run is opened again. It starts at the beginning of the newest attempt then: lines that
    came before are left out for as long as both streams agree.

    Args:
        open_stream: starts a stream; its chunks are text, or None for SkyPilot's own control messages.
        is_over: whether the run has ended.
        follow: go on until then.
    """
    before = array("q")
    while True:
        over = not follow or is_over()
        seen = array("q")
        same = True
        for line in _lines(open_stream()):
            if line is None:
                yield None
                continue
            seen.append(hash(line))
            same = same and len(seen) <= len(before) and before[len(seen) - 1] == seen[-1]
            if not same:
                yield line
        before = seen if len(seen) > len(before) or not same else before
        if over:
            return
        waited = time.monotonic() + _RETRY_S
        while time.monotonic() < waited:
            time.sleep(0.2)
            yield None


def _lines(chunks: Iterable[str | None]) -> Iterator[str | None]:
    rest = ""
    for chunk in with_idle(chunks):
        if chunk is None:
            yield None
            continue
        *whole, rest = (rest + chunk).split("\n")
        yield from whole
    if rest:
        yield rest
