"""The log of a dstack run, read a page at a time: what was read before is not asked for again."""

from __future__ import annotations

import base64
import codecs
import time
from collections.abc import Callable, Iterator
from typing import Any

from ftl_launcher.idle import chunk_lines

_POLL_S = 2.0
_PAGE = 1000


def tail_run(ask: Callable[[], Any], poll: Callable[..., Any], *, follow: bool) -> Iterator[str | None]:
    """Lines of a run; see `Backend.logs`.

    Args:
        ask: the run as dstack knows it now.
        poll: a page of its log, given ``job_submission_id``, ``next_token`` and ``limit``.
        follow: go on until the run has ended.
    """
    return chunk_lines(_chunks(ask, poll, follow))


def _chunks(ask: Callable[[], Any], poll: Callable[..., Any], follow: bool) -> Iterator[str]:
    submission, token, seen = None, None, 0
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        run = ask()
        newest = run.jobs[0].job_submissions[-1].id if run is not None else None
        if newest != submission:  # another attempt has a log of its own
            submission, token, seen = newest, None, 0
        more = submission is not None
        while more:
            page = poll(job_submission_id=submission, next_token=token, limit=_PAGE)
            for event in page.logs[seen:]:
                yield decoder.decode(base64.b64decode(event.message)).replace("\r\n", "\n")
            more = bool(page.next_token and page.logs)
            token, seen = (page.next_token, 0) if more else (token, len(page.logs))
        if run is None or run.status.is_finished() or not follow:
            return
        time.sleep(_POLL_S)
