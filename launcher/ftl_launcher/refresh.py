"""Bringing a record up to date: ask the backend, read the new part of a local log, settle the state."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from ftl_config.errors import FtlError
from ftl_config.protocol import EVENT_PREFIX, parse_event
from ftl_launcher.backends.protocol import Backend, BackendState
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.outcome import decide_error, decide_exit_code, decide_state
from ftl_launcher.paths import RunDir
from ftl_launcher.processes import is_alive
from ftl_launcher.progress import Progress
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.states import RunState

_PREFIX = EVENT_PREFIX.encode()


def refresh(store: RunStore, record: RunRecord, *, allow_import: bool = False, read_log: bool = False) -> RunRecord:
    """The record as it is now; unchanged where the run has ended, or its backend cannot be asked.

    Args:
        store: where the record is kept and updated.
        record: the run.
        allow_import: ask backends whose client library takes seconds to import, too.
        read_log: read the whole log of a run that nobody followed, for its progress; it may be long, and far away.
    """
    if record.state.is_terminal and record.state is not RunState.LOST:
        return record
    if record.state is RunState.SUBMITTING and is_alive(record.submitter):
        return record
    backend = load_backend(record.backend)
    if backend.state_needs_import and not allow_import:
        return record
    try:
        return _ask(store, record, backend, read_log=read_log)
    except FtlError:
        return record


def _ask(store: RunStore, record: RunRecord, backend: Backend, *, read_log: bool) -> RunRecord:
    state = backend.state(record.handle)
    progress = fold_local_log(record)
    if read_log and record.backend != "local" and state.state not in (RunState.PENDING, RunState.LOST):
        progress = _fold_whole_log(backend, record.handle) or progress
    if record.state is RunState.SUBMITTING and state.state is RunState.LOST:
        state = BackendState(RunState.FAILED, message="the launcher ended before the run was submitted; nothing runs")
    return settle(store, record, state, progress)


def settle(store: RunStore, record: RunRecord, backend: BackendState, progress: Progress) -> RunRecord:
    """Write what is known now into the record."""
    state = decide_state(backend, progress, cancel_requested=record.cancel_requested)
    changes: dict[str, Any] = {"metrics": progress.to_dict(), "submitter": None}
    if backend.started_at and record.started_at is None:
        changes["started_at"] = backend.started_at
    if state.is_terminal:
        changes["ended_at"] = record.ended_at or backend.ended_at
        changes["exit_code"] = decide_exit_code(state, backend, progress)
        changes["error"] = decide_error(state, backend, progress)
    return store.update(record.name, state=state, **changes)


def _fold_whole_log(backend: Backend, handle: str) -> Progress | None:
    """What the run has said so far; None where its log cannot be had now, or says nothing."""
    progress, told = Progress(), False
    with suppress(FtlError):
        for line in backend.logs(handle, follow=False):
            if line is not None and EVENT_PREFIX in line and (event := parse_event(line)):
                progress.fold(event)
                told = True
    return progress if told else None


def fold_local_log(record: RunRecord) -> Progress:
    """Progress from the record, brought forward by what a local log has gained since. Whole lines only."""
    progress = Progress.from_dict(record.metrics)
    path = RunDir.of(record.name).driver_log
    if record.backend != "local" or not path.exists():
        return progress
    with path.open("rb") as file:
        file.seek(0, 2)
        if file.tell() < progress.log_bytes:  # another log: the run was launched again
            progress = Progress()
        file.seek(progress.log_bytes)
        for line in file:
            if not line.endswith(b"\n"):
                break
            progress.log_bytes += len(line)
            if _PREFIX in line and (event := parse_event(line.decode("utf-8", errors="replace"))):
                progress.fold(event)
    return progress
