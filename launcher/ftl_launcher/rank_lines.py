"""One worker's lines out of a log that all of them share.

Ray writes ``(RayTrainWorker pid=4711, ip=10.0.0.2) text``, without the address for workers on the driver's machine,
and the ``train_start`` event says which worker has which process and address.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ftl_config.errors import FtlError
from ftl_config.protocol import EventType, parse_event

_WORKER = re.compile(r"\((?:RayTrainWorker|TrainWorker)[^)]*?pid=(?P<pid>\d+)(?:, ip=(?P<ip>[^)]+))?\) ?(?P<text>.*)")


def lines_of_rank(lines: Iterable[str], rank: int) -> Iterator[str]:
    """The text of that worker's lines, of all attempts; lines before its process is known are kept until it is.

    Raises:
        FtlError: the run has no such rank.
    """
    early: list[tuple[str, str | None, str]] = []
    workers: list[dict[str, object]] = []
    for line in lines:
        event = parse_event(line)
        if event is not None and event.type is EventType.TRAIN_START and event.get("workers"):
            workers = list(event["workers"])
            if rank >= len(workers):
                raise FtlError(f"the run has no rank {rank}: it has {len(workers)} workers, from 0", exit_code=2)
            yield from (text for pid, ip, text in early if _is_of(workers[rank], workers[0], pid, ip))
            early = []
        elif found := _WORKER.search(line):
            parts = (found["pid"], found["ip"], found["text"])
            if not workers:
                early.append(parts)
            elif _is_of(workers[rank], workers[0], parts[0], parts[1]):
                yield parts[2]
            elif not any(_is_of(worker, workers[0], parts[0], parts[1]) for worker in workers):
                early.append(parts)  # a worker of the next attempt


def _is_of(worker: dict[str, object], first: dict[str, object], pid: str, ip: str | None) -> bool:
    """Rank 0 is on the driver's machine as a rule, and lines from there name no address."""
    return str(worker.get("pid")) == pid and (ip or first.get("host")) == worker.get("host")
