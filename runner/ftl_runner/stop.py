"""The stop signal: SIGTERM, Ctrl-C or a cancel that reaches one rank ends the run cleanly on all of them."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType


class StopSignal:
    """A flag that training polls once a step.

    Handlers are re-entrant: schedulers send SIGTERM twice within seconds, and Ctrl-C is pressed twice.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self.signal_number: int | None = None
        self.at_limit = False
        """The run's own hours were over, rather than anybody asking."""

    def request(self, signal_number: int | None = None, *, at_limit: bool = False) -> None:
        """Ask the run to stop after the current step, with a checkpoint. Later requests change nothing."""
        if not self._event.is_set():
            self.signal_number, self.at_limit = signal_number, at_limit
            self._event.set()

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def wait(self, timeout_s: float) -> bool:
        return self._event.wait(timeout_s)

    def listen(self) -> None:
        """Install the handlers for SIGTERM and SIGINT; main thread only."""
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)

    def poll(self, ask: Callable[[], bool], interval_s: float = 0.5) -> None:
        """Watch a flag that lives elsewhere (the driver of a Ray job) from a daemon thread."""

        def watch() -> None:
            while not self._event.wait(interval_s):
                try:
                    if ask():
                        self.request(signal.SIGTERM)
                except Exception:  # the driver is gone, and with it this worker soon
                    return

        threading.Thread(target=watch, name="ftl-stop-poll", daemon=True).start()

    def _handle(self, signal_number: int, frame: FrameType | None) -> None:
        self.request(signal_number)
