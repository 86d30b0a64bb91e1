"""Events -> progress, and progress with the backend's word -> state."""

from __future__ import annotations

import pytest

from ftl_config.protocol import Event, EventType
from ftl_launcher import formats
from ftl_launcher.backends.protocol import BackendState
from ftl_launcher.outcome import decide_error, decide_exit_code, decide_state, shell_exit_code
from ftl_launcher.progress import Progress
from ftl_launcher.states import RunState
from tests.unit.launcher.plans import plan_of, record_of


@pytest.mark.parametrize(
    ("backend", "code", "status", "cancelled", "expected"),
    [
        ("running", None, None, False, "running"),
        ("running", None, None, True, "cancelling"),
        ("succeeded", 0, "succeeded", False, "succeeded"),
        ("succeeded", 0, None, True, "succeeded"),
        ("failed", 1, "failed", False, "failed"),
        ("failed", 20, "preempted", False, "preempted"),
        ("failed", 20, "preempted", True, "cancelled"),
        ("failed", 21, "stopped", False, "stopped"),
        ("failed", None, "stopped", False, "stopped"),
        ("failed", 130, None, False, "cancelled"),
        ("failed", 0, None, False, "failed"),
        ("failed", None, None, False, "failed"),
        ("cancelled", None, "preempted", True, "cancelled"),
        ("cancelled", None, None, False, "cancelled"),
        ("cancelled", None, "succeeded", True, "succeeded"),
        ("lost", None, None, False, "lost"),
        ("lost", None, "succeeded", False, "succeeded"),
        ("lost", None, "preempted", True, "cancelled"),
    ],
)
def test_state(backend: str, code: int | None, status: str | None, cancelled: bool, expected: str) -> None:
    state = BackendState(RunState(backend), exit_code=code)
    assert decide_state(state, Progress(status=status), cancel_requested=cancelled) == expected


def test_exit_code_and_error_come_from_the_run_first() -> None:
    backend = BackendState(RunState.FAILED, exit_code=1, message="Job failed\nlong log")
    assert decide_exit_code(RunState.FAILED, backend, Progress(exit_code=3)) == 3
    assert decide_exit_code(RunState.FAILED, backend, Progress()) == 1
    assert decide_error(RunState.FAILED, backend, Progress(error="no rows")) == "no rows"
    assert decide_error(RunState.FAILED, backend, Progress()) == "Job failed"
    assert decide_error(RunState.SUCCEEDED, backend, Progress(error="x")) is None


@pytest.mark.parametrize(
    ("state", "code", "expected"),
    [("succeeded", 0, 0), ("cancelled", 20, 130), ("preempted", 20, 20), ("failed", 3, 3), ("failed", None, 1)],
)
def test_shell_exit_code(state: str, code: int | None, expected: int) -> None:
    record = record_of(plan_of(), state=RunState(state), exit_code=code)
    assert shell_exit_code(record) == expected


def test_progress_survives_json() -> None:
    progress = Progress()
    for step in range(1, 4):
        progress.fold(Event(EventType.STEP, {"step": step, "total_steps": 10, "loss": 1.0 / step}))
    progress.fold(Event(EventType.CHECKPOINT, {"step": 3, "uri": "s3://b/3"}))
    assert Progress.from_dict(progress.to_dict()) == progress
    assert Progress.from_dict({"step": 1, "of_a_newer_ftl": 2}).step == 1


def test_losses_stay_few_and_span_the_run() -> None:
    progress = Progress()
    for step in range(1, 10_001):
        progress.fold(Event(EventType.STEP, {"step": step, "total_steps": 10_000, "loss": float(step)}))
    assert len(progress.losses) <= 64
    assert progress.losses[0] == 1.0
    assert progress.losses[-1] > 9_000


def test_a_new_attempt_forgets_how_the_last_one_ended() -> None:
    progress = Progress()
    progress.fold(Event(EventType.ERROR, {"message": "worker died", "exit_code": 1}))
    progress.fold(Event(EventType.END, {"status": "failed", "exit_code": 1}))
    progress.fold(Event(EventType.TRAIN_START, {"total_steps": 10, "start_step": 4, "attempt": 2}))
    assert (progress.error, progress.status, progress.exit_code, progress.step) == (None, None, None, 4)


def test_a_loss_that_is_no_number_is_not_plotted() -> None:
    progress = Progress()
    progress.fold(Event(EventType.STEP, {"step": 1, "loss": "nan"}))
    assert progress.losses == []


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.4, "0s"), (61, "1m01s"), (3661, "1h01m"), (90_000, "1d01h"), (-3, "0s")]
)
def test_duration(seconds: float | None, text: str) -> None:
    assert formats.duration(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(950, "950"), (1234, "1.23k"), (135e6, "135M"), (7.2e9, "7.2B")])
def test_count(number: float, text: str) -> None:
    assert formats.count(number) == text


def test_sparkline() -> None:
    assert formats.sparkline([]) == ""
    assert formats.sparkline([1.0]) == "▁"
    assert formats.sparkline([3, 2, 1]) == "█▅▁"
    assert len(formats.sparkline(list(range(500)))) == 24


def test_every_event_type_has_a_line_or_a_reason() -> None:
    silent = {EventType.SAMPLE, EventType.SUMMARY}  # they fill the tables at the end
    for kind in EventType:
        line = formats.event_line(Event(kind, {"step": 1, "message": "m", "phase": "data"}))
        assert (line is None) == (kind in silent), kind
