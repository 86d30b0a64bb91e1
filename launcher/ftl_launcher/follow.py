"""Watching a submitted run to its end, or to Ctrl-C."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from ftl_config.errors import FtlError
from ftl_config.protocol import parse_event
from ftl_launcher.backends.protocol import Backend, BackendState
from ftl_launcher.display import Display
from ftl_launcher.progress import Progress
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.refresh import settle
from ftl_launcher.states import RunState

_STORE_EVERY_S = 2.0
_END_TRIES = 20
_PLUMBING_ACTORS = (
    "PlacementGroupCleaner",
    "DatasetManager",
    "PreemptionWatcher",
    "SynchronizationActor",
    "_AutoscalingCoordinatorActor",
)
_NOISE = (
    "INFO job_manager.py",
    "INFO worker.py",
    "Running entrypoint for job ",
    "core_worker.cc:",
    "Setting up process group for: env://",
    "deepspeed_shm_comm_op built successfully",
    "(TrainController pid=",
    *(f"({actor} pid=" for actor in _PLUMBING_ACTORS),
)
"""What Ray and DeepSpeed say about their own plumbing; `ftl logs` shows it."""

Redact = Callable[[str], str]


class Interrupts:
    """Ctrl-C as a question that the following loop answers when it gets round to it."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1

    @contextmanager
    def installed(self) -> Iterator[Interrupts]:
        before = signal.signal(signal.SIGINT, self)
        try:
            yield self
        finally:
            signal.signal(signal.SIGINT, before)


class Detached(Exception):
    """The user stopped following; the run goes on."""


def follow_run(
    store: RunStore, backend: Backend, record: RunRecord, display: Display, redact: Redact, *, cancel_on_interrupt: bool
) -> tuple[RunRecord, Progress]:
    """Show a run until it ends; returns its final record and everything it said about itself.

    Args:
        store: keeps the record, brought up to date every few seconds.
        backend: where it runs.
        record: the run.
        display: what to tell.
        redact: applied to every line before it is shown.
        cancel_on_interrupt: the first Ctrl-C asks the run to save and stop, the second detaches. Else the first does.

    Raises:
        Detached: Ctrl-C.
        FtlError: the log cannot be read.
    """
    progress = Progress()
    stored_at = time.monotonic()
    answered = 0
    with Interrupts().installed() as interrupts:
        for line in backend.logs(record.handle, follow=True):
            if interrupts.count > answered:
                answered = interrupts.count
                if not cancel_on_interrupt or answered > 1:
                    raise Detached
                record = request_cancel(store, backend, record)
                display.note("stopping: the run saves a checkpoint first (Ctrl-C again to leave it to that and detach)")
            if line is None:
                display.tick()
                continue
            show_line(redact(line), progress, display)
            if time.monotonic() - stored_at > _STORE_EVERY_S:
                stored_at = time.monotonic()
                record = settle(store, store.get(record.name), BackendState(RunState.RUNNING), progress)
    return _final_record(store, backend, record, progress), progress


def show_line(line: str, progress: Progress, display: Display) -> None:
    """An event is folded and shown as such, anything else as text."""
    event = parse_event(line)
    if event is not None:
        progress.fold(event)
        display.event(event, progress)
    elif line.strip() and not any(noise in line for noise in _NOISE):
        display.text(line)


def request_cancel(store: RunStore, backend: Backend, record: RunRecord) -> RunRecord:
    """Note the wish first, then pass it on: whatever happens next, the record says why the run stopped."""
    record = store.update(record.name, state=RunState.CANCELLING, cancel_requested=1)
    backend.cancel(record.handle)
    return record


def _final_record(store: RunStore, backend: Backend, record: RunRecord, progress: Progress) -> RunRecord:
    """The log is over; the backend may need a moment to say so."""
    for _ in range(_END_TRIES):
        try:
            state = backend.state(record.handle)
        except FtlError:
            state = BackendState(RunState.RUNNING)
        if state.state.is_terminal:
            return settle(store, store.get(record.name), state, progress)
        time.sleep(0.25)
    return settle(store, store.get(record.name), state, progress)
