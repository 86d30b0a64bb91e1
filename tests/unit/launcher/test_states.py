"""Run states: which are final, and what may follow what."""

from __future__ import annotations

import pytest

from ftl_launcher.states import RunState, can_move


def test_every_state_has_its_transitions() -> None:
    assert all(can_move(state, state) for state in RunState)


def test_finished_runs_only_start_over() -> None:
    for state in RunState:
        if state.is_terminal and state is not RunState.LOST:
            assert [new for new in RunState if new is not state and can_move(state, new)] == [RunState.SUBMITTING]


@pytest.mark.parametrize(
    ("old", "new", "allowed"),
    [
        ("submitting", "running", True),
        ("running", "cancelling", True),
        ("cancelling", "running", False),
        ("running", "starting", False),
        ("succeeded", "failed", False),
        ("lost", "running", True),
        ("failed", "submitting", True),
    ],
)
def test_moves(old: str, new: str, allowed: bool) -> None:
    assert can_move(RunState(old), RunState(new)) is allowed


def test_what_can_be_resumed() -> None:
    assert {state for state in RunState if state.can_resume} == {"failed", "cancelled", "preempted", "stopped", "lost"}
