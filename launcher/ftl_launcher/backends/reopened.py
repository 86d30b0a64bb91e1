"""Lines of a log that may break off before its run has ended, and starts over when it is opened again."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator

_RETRY_S = 3.0


def reopened_lines(
    open_lines: Callable[[], Iterator[str | None]], is_over: Callable[[], bool], *, follow: bool
) -> Iterator[str | None]:
    """Lines of a run; see `Backend.logs`.

    A log that ends before the run is opened again. It starts at the beginning of the newest attempt then: lines that
    came before are left out for as long as both agree.

    Args:
        open_lines: opens the log; its lines, and None now and then while there are none.
        is_over: whether the run has ended.
        follow: go on until then.
    """
    before = array("q")
    while True:
        over = not follow or is_over()
        seen = array("q")
        same = True
        for line in open_lines():
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
