"""The life of a run as the launcher sees it."""

from __future__ import annotations

from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands; the first six are live, the rest terminal."""

    SUBMITTING = "submitting"  # the record is written, the backend has not answered yet
    PENDING = "pending"  # the backend has it and looks for a place
    STARTING = "starting"  # the place is there, the training process is not
    RUNNING = "running"
    CANCELLING = "cancelling"  # asked to stop; saving a checkpoint
    RECOVERING = "recovering"  # lost its machines; the backend finds new ones by itself
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    PREEMPTED = "preempted"  # stopped by a signal after saving; `ftl resume` goes on
    STOPPED = "stopped"  # at its limit of hours or cost, after saving; `ftl resume` with a higher one goes on
    LOST = "lost"  # the backend no longer knows it and it left no result

    @property
    def is_terminal(self) -> bool:
        return self in _TERMINAL

    @property
    def can_resume(self) -> bool:
        return self in _TERMINAL and self is not RunState.SUCCEEDED


_TERMINAL = frozenset(
    {
        RunState.SUCCEEDED,
        RunState.FAILED,
        RunState.CANCELLED,
        RunState.PREEMPTED,
        RunState.STOPPED,
        RunState.LOST,
    }
)

TRANSITIONS: dict[RunState, frozenset[RunState]] = {
    RunState.SUBMITTING: frozenset(RunState) - {RunState.RECOVERING},
    RunState.PENDING: frozenset(RunState) - {RunState.SUBMITTING},
    RunState.STARTING: frozenset(RunState) - {RunState.SUBMITTING},
    RunState.RUNNING: frozenset(RunState) - {RunState.SUBMITTING, RunState.STARTING},
    RunState.RECOVERING: frozenset(RunState) - {RunState.SUBMITTING},
    RunState.CANCELLING: _TERMINAL,
    # A run that had vanished may turn up again (the cluster came back); a finished one only starts over.
    RunState.LOST: frozenset(RunState),
    **{state: frozenset({RunState.SUBMITTING}) for state in _TERMINAL - {RunState.LOST}},
}


def can_move(old: RunState, new: RunState) -> bool:
    """Whether a record in state ``old`` may be set to ``new``; staying where one is is always allowed."""
    return old is new or new in TRANSITIONS[old]
