"""Following the log of a job on a Ray cluster: a websocket read in a thread, picked up again when it breaks."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator

from ftl_config.errors import FtlError
from ftl_launcher.backends import ray_http
from ftl_launcher.backends.ray_client import make_client
from ftl_launcher.backends.ray_http import Endpoint
from ftl_launcher.states import RunState

_IDLE_S = 0.25
_RECONNECT_DELAYS_S = (1.0, 2.0, 5.0, 10.0)
_QUEUE_CHUNKS = 256
"""Bounds memory: a log that comes faster than it is printed waits in the socket, not here."""


def tail_job(endpoint: Endpoint, submission_id: str, *, follow: bool) -> Iterator[str | None]:
    """Lines of a job's log; see `Backend.logs`.

    Raises:
        FtlError: the cluster stays unreachable, or never knew the job.
    """
    if not follow:
        yield from _stored_lines(endpoint, submission_id)
        return
    seen = 0
    failures = 0
    while True:
        reader = _Reader(endpoint, submission_id, skip=seen)
        for line in reader.lines():
            if line is not None:
                seen += 1
                failures = 0
            yield line
        if reader.error is None and _has_ended(endpoint, submission_id):
            return
        if failures >= len(_RECONNECT_DELAYS_S):
            raise FtlError(f"lost the log of {submission_id}: {reader.error}", hint="`ftl logs -f` picks it up again")
        yield from _pause(_RECONNECT_DELAYS_S[failures])
        failures += 1


class _Reader:
    """One connection: the server sends the log from its start, so lines that were given out already are skipped."""

    def __init__(self, endpoint: Endpoint, submission_id: str, skip: int) -> None:
        self.error: Exception | None = None
        self._endpoint = endpoint
        self._submission_id = submission_id
        self._skip = skip
        self._chunks: queue.Queue[str | None] = queue.Queue(maxsize=_QUEUE_CHUNKS)
        threading.Thread(target=self._read, daemon=True, name="ftl-ray-log").start()

    def lines(self) -> Iterator[str | None]:
        rest, number = "", 0
        while True:
            try:
                chunk = self._chunks.get(timeout=_IDLE_S)
            except queue.Empty:
                yield None
                continue
            if chunk is None:
                break
            *whole, rest = (rest + chunk).split("\n")
            for line in whole:
                number += 1
                if number > self._skip:
                    yield line.rstrip("\r")
        # A last line without an end is only complete when the job is.
        if rest and self.error is None and number + 1 > self._skip:
            yield rest

    def _read(self) -> None:
        import asyncio  # here, for the commands that follow nothing: it takes as long to import as they run

        try:
            asyncio.run(self._copy())
        except Exception as error:  # handed to the reading side, which decides whether to reconnect
            self.error = error
        self._chunks.put(None)

    async def _copy(self) -> None:
        import asyncio

        async for chunk in make_client(self._endpoint).tail_job_logs(self._submission_id):
            while True:
                try:
                    self._chunks.put_nowait(chunk)
                    break
                except queue.Full:
                    await asyncio.sleep(0.02)


def _stored_lines(endpoint: Endpoint, submission_id: str) -> Iterator[str]:
    try:
        text: str = make_client(endpoint).get_job_logs(submission_id)
    except RuntimeError as error:
        raise FtlError(f"Ray at {endpoint.address} has no log of {submission_id}: {error}") from error
    yield from text.splitlines()


def _has_ended(endpoint: Endpoint, submission_id: str) -> bool:
    state = ray_http.job_state(endpoint, submission_id)
    if state.state is RunState.LOST:
        raise FtlError(state.message or f"no job {submission_id}")
    return state.state.is_terminal


def _pause(seconds: float) -> Iterator[None]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        time.sleep(_IDLE_S)
        yield None
