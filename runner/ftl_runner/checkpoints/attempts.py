"""The lives of a run between preemptions, counted and timed in the checkpoint store: no backend does it for us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ftl_runner.checkpoints.store import CheckpointStore

_FOLDER = "attempts/"


def begin_attempt(store: CheckpointStore, run_id: str, world_size: int, *, started: float) -> int:
    """Count this life of the run and return its number, from 1; ``started`` is in seconds since the epoch.

    Conditional creation makes two starters agree on different numbers.
    """
    attempt = max(_numbers(store), default=0) + 1
    while not store.create(_key(attempt), _note(run_id, world_size, started, started)):
        attempt += 1
    return attempt


def note_seen(store: CheckpointStore, attempt: int, *, now: float) -> None:
    """Write down that an attempt was alive at ``now``: what it takes counts up to there, however it ends."""
    note = _read(store, attempt)
    store.write(_key(attempt), json.dumps({**note, "seen": now}).encode())


def seconds_before(store: CheckpointStore, attempt: int) -> float:
    """What the attempts before this one took, in seconds, as far as they were seen."""
    notes = [_read(store, number) for number in _numbers(store) if number < attempt]
    return sum(max(0.0, float(note.get("seen", 0)) - float(note.get("started", 0))) for note in notes)


def note_failure(store: CheckpointStore) -> int:
    """Mark the newest attempt as failed; returns how many have failed so far, 0 where none was begun."""
    numbers = _numbers(store)
    if not numbers:
        return 0
    store.write(_key(max(numbers)), json.dumps({**_read(store, max(numbers)), "failed": True}).encode())
    return sum(bool(_read(store, number).get("failed")) for number in numbers)


def _numbers(store: CheckpointStore) -> list[int]:
    return [int(Path(key).stem) for key in store.list(_FOLDER) if Path(key).stem.isdigit()]


def _key(attempt: int) -> str:
    return f"{_FOLDER}{attempt}.json"


def _note(run_id: str, world_size: int, started: float, seen: float) -> bytes:
    return json.dumps({"run_id": run_id, "started": started, "seen": seen, "world_size": world_size}).encode()


def _read(store: CheckpointStore, attempt: int) -> dict[str, Any]:
    content = store.read(_key(attempt))
    return dict(json.loads(content)) if content else {}
