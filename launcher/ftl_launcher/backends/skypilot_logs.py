"""Lines out of SkyPilot's log streams, which end with a lost connection, and with the machines of one attempt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from ftl_launcher.backends.reopened import reopened_lines
from ftl_launcher.idle import chunk_lines


def stream_lines(
    open_stream: Callable[[], Iterable[str | None]], is_over: Callable[[], bool], *, follow: bool
) -> Iterator[str | None]:
    """Lines of a run; see `Backend.logs`.

    Args:
        open_stream: starts a stream; its chunks are text, or None for SkyPilot's own control messages.
        is_over: whether the run has ended.
        follow: go on until then.
    """
    return reopened_lines(lambda: chunk_lines(open_stream()), is_over, follow=follow)
