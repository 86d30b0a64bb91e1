"""The event stream of a run: every view (progress, status, report) is made from it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from ftl_config.preflight import event_text
from ftl_config.protocol import EVENT_PREFIX, Event, EventType
from ftl_runner.redaction import redactor

EVENTS_FILE = "events.jsonl"


class EventStream:
    """Emit events from the main rank; other ranks hold one whose ``emit`` does nothing but warnings."""

    def __init__(self, send: Callable[[Event], None], *, enabled: bool = True) -> None:
        self._send = send
        self._enabled = enabled
        self._file: Path | None = None

    def also_write(self, folder: Path) -> None:
        """Append each event to ``events.jsonl`` in a folder from now on."""
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / EVENTS_FILE

    def emit(self, event_type: EventType, **fields: Any) -> None:
        if not self._enabled:
            return
        event = Event(event_type, fields)
        if self._file is not None:
            try:
                with self._file.open("a") as file:
                    file.write(redactor()(event.to_json()) + "\n")
            except OSError:
                # A full disk must not hide the event from whoever is watching.
                self._file = None
        self._send(event)

    def phase(self, name: str, message: str) -> None:
        self.emit(EventType.PHASE, phase=name, message=message)


class StreamSender:
    """Write events as lines: with the prefix for a launcher to parse, or as short text for a person."""

    def __init__(self, stream: TextIO | None = None, *, machine_readable: bool) -> None:
        self._stream = stream or sys.stdout
        self._machine_readable = machine_readable
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        line = EVENT_PREFIX + event.to_json() if self._machine_readable else human_line(event)
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


def human_line(event: Event) -> str:
    """One plain line for an event, for logs that no launcher reads; more where a preflight has more to say."""
    if event.type is EventType.PREFLIGHT:
        return event_text(event.fields)
    fields = " ".join(f"{name}={_short(value)}" for name, value in event.fields.items() if value is not None)
    return f"[{event.type}] {fields}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
