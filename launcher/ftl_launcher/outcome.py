"""What became of a run: the backend's word and the run's own, weighed. Pure."""

from __future__ import annotations

from ftl_config.protocol import ExitCode
from ftl_launcher.backends.protocol import BackendState
from ftl_launcher.progress import Progress
from ftl_launcher.records import RunRecord
from ftl_launcher.states import RunState

_BY_EXIT_CODE = {
    int(ExitCode.OK): RunState.SUCCEEDED,
    int(ExitCode.PREEMPTED): RunState.PREEMPTED,
    int(ExitCode.LIMIT_REACHED): RunState.STOPPED,
    int(ExitCode.INTERRUPTED): RunState.CANCELLED,
}

_BY_STATUS = {
    "succeeded": RunState.SUCCEEDED,
    "failed": RunState.FAILED,
    "cancelled": RunState.CANCELLED,
    "preempted": RunState.PREEMPTED,
    "stopped": RunState.STOPPED,
}


def decide_state(backend: BackendState, progress: Progress, *, cancel_requested: bool) -> RunState:
    """The state to show.

    The backend says whether something still runs. How a run ended the run itself knows best (its END event), then its
    exit code. A run that stopped early because it was asked to is cancelled, whatever it calls that.
    """
    if not backend.state.is_terminal:
        return RunState.CANCELLING if cancel_requested else backend.state
    own_word = _BY_STATUS.get(progress.status or "")
    if backend.state is RunState.LOST:
        state = own_word or RunState.LOST
    elif backend.state is RunState.CANCELLED:
        state = RunState.SUCCEEDED if own_word is RunState.SUCCEEDED else RunState.CANCELLED
    elif backend.state is RunState.FAILED:
        code = backend.exit_code if backend.exit_code is not None else progress.exit_code
        state = _BY_EXIT_CODE.get(code, RunState.FAILED) if code is not None else own_word or RunState.FAILED
        if state is RunState.SUCCEEDED:
            state = RunState.FAILED
    else:
        state = backend.state
    return RunState.CANCELLED if cancel_requested and state is RunState.PREEMPTED else state


def decide_exit_code(state: RunState, backend: BackendState, progress: Progress) -> int | None:
    """The runner's exit code where anybody knows it."""
    if state is RunState.SUCCEEDED:
        return int(ExitCode.OK)
    return progress.exit_code if progress.exit_code is not None else backend.exit_code


def decide_error(state: RunState, backend: BackendState, progress: Progress) -> str | None:
    """One line on why it failed; the run's own words before the backend's."""
    if state not in (RunState.FAILED, RunState.LOST):
        return None
    if progress.error:
        return progress.error
    lines = [line for line in (backend.message or "").splitlines() if line.strip()]
    return lines[0] if lines else None


def shell_exit_code(record: RunRecord) -> int:
    """Exit code of a command that followed a run to its end."""
    if record.state is RunState.SUCCEEDED:
        return int(ExitCode.OK)
    if record.state is RunState.CANCELLED:
        return int(ExitCode.INTERRUPTED)
    if record.state is RunState.PREEMPTED:
        return int(ExitCode.PREEMPTED)
    if record.state is RunState.STOPPED:
        return int(ExitCode.LIMIT_REACHED)
    return record.exit_code or int(ExitCode.FAILURE)
