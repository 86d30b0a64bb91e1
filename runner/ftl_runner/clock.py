"""Wall-clock seconds of a run's phases, for the ``startup`` section of its metrics."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class PhaseClock:
    """Adds up seconds by phase name. ``process_start`` is in seconds since the epoch."""

    def __init__(self, process_start: float | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._start = process_start or time.time()

    @contextmanager
    def measure(self, phase: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.monotonic() - started

    def record(self, phase: str, seconds: float) -> None:
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    def startup_seconds(self) -> dict[str, float]:
        """The phases before and up to the first step, in the order in which they came."""
        return {name: round(value, 3) for name, value in self.seconds.items() if name != "train"}

    @property
    def elapsed_s(self) -> float:
        return time.time() - self._start
