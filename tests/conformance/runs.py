"""What every backend's runs do, whatever the backend: one class, inherited once for each place that can be had.

The runner is the stand-in of tests/services/standin, which counts steps and obeys signals: what is judged here is the
backend. A class that inherits this one gives the fixture ``place``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_config.load import load_text
from ftl_config.protocol import Event, EventType, parse_event
from ftl_launcher.backends.protocol import Backend, BackendState, Request
from ftl_launcher.paths import records_file
from ftl_launcher.plan import HostFacts, make_plan
from ftl_launcher.records import RunStore
from ftl_launcher.states import RunState
from ftl_launcher.submission import make_request, submit_new

SECRET_NAME, SECRET = "PLANTED", "planted-value-5Zq"
SECRETS = {SECRET_NAME: SECRET}

CONFIG = """\
base_model: org/model
datasets: [{path: org/chats, type: chat_template}]
micro_batch_size: 1
gradient_accumulation_steps: 1
num_epochs: 1
learning_rate: 1e-4
optimizer: adamw_torch
"""

_LONGEST_SILENCE_S = 2.0
"""Twice a second is the contract; the rest is what a busy machine takes."""


@dataclass(frozen=True)
class Place:
    """Where runs go: the keys of the launch section, and where the stand-in keeps its step."""

    launch: Mapping[str, str]
    checkpoints: str
    workdir: Path
    timeout_s: float = 120
    env: Mapping[str, str] = field(default_factory=dict)

    def request(self, name: str, **standin: str) -> tuple[Backend, Request]:
        """A run of the stand-in."""
        flags = [f"--launch.{key}={value}" for key, value in self.launch.items()]
        env = {**self.env, **{f"STANDIN_{key}": value for key, value in standin.items()}}
        flags += [f"--launch.env.{key}={value}" for key, value in env.items()]
        flags += [f"--checkpoint={self.checkpoints}", f"--launch.secrets=[{SECRET_NAME}]"]
        loaded = load_text(CONFIG, flags, name="config.yml")
        plan = make_plan(loaded, name, HostFacts(workdir=str(self.workdir)), ftl_version="1.2.3")
        return make_request(plan)

    def submit(self, name: str, **standin: str) -> tuple[Backend, Request]:
        """As `ftl launch` does it, with a record before and after."""
        backend, request = self.request(name, **standin)
        submit_new(RunStore(records_file()), backend, request, SECRETS)
        return backend, request

    def wait_for(self, backend: Backend, handle: str, *states: RunState) -> BackendState:
        deadline = time.monotonic() + self.timeout_s
        while (found := backend.state(handle)).state not in states:
            assert time.monotonic() < deadline, f"still {found}"
            assert not found.state.is_terminal, found
            time.sleep(0.3)
        return found

    def end_of(self, backend: Backend, handle: str) -> BackendState:
        return self.wait_for(backend, handle, *(state for state in RunState if state.is_terminal))


@dataclass
class Followed:
    """What a follower saw."""

    lines: list[str] = field(default_factory=list)
    longest_silence_s: float = 0.0

    def events(self, kind: EventType) -> list[Event]:
        found = (parse_event(line) for line in self.lines)
        return [event for event in found if event is not None and event.type is kind]


def follow(backend: Backend, handle: str) -> Followed:
    """To the end of the log."""
    seen, last = Followed(), time.monotonic()
    for line in backend.logs(handle, follow=True):
        now = time.monotonic()
        seen.longest_silence_s, last = max(seen.longest_silence_s, now - last), now
        if line is not None:
            seen.lines.append(line)
    return seen


class ConformingRuns:
    """The tests."""

    def test_a_run_that_succeeds(self, place: Place) -> None:
        backend, request = place.submit("succeeds", STEPS="6", STEP_S="0.5", PRINT_ENV=SECRET_NAME)
        seen = follow(backend, request.handle)
        end = place.end_of(backend, request.handle)
        assert (end.state, end.exit_code or 0) == (RunState.SUCCEEDED, 0)
        assert [event["step"] for event in seen.events(EventType.STEP)] == [1, 2, 3, 4, 5, 6], "once, and in order"
        assert seen.longest_silence_s < _LONGEST_SILENCE_S
        stored = [line for line in backend.logs(request.handle, follow=False) if line is not None]
        ours = [line for line in seen.lines if "::ftl::" in line]
        assert [line for line in stored if "::ftl::" in line] == ours, "afterwards the same lines are there"
        assert f"{SECRET_NAME}={SECRET}" in "\n".join(stored), "the secret arrived"
        backend.cancel(request.handle)  # of a run that has ended: no error, and nothing changes
        assert backend.state(request.handle).state is RunState.SUCCEEDED
        for _ in range(2):
            backend.down(request.handle)

    def test_the_same_submission_twice_is_one_run(self, place: Place) -> None:
        backend, request = place.submit("twice", STEPS="8", STEP_S="0.5")
        place.wait_for(backend, request.handle, RunState.RUNNING, RunState.SUCCEEDED)
        with suppress(FtlError):  # refused is as good as recognised
            backend.submit(request, SECRETS)
        assert place.end_of(backend, request.handle).state is RunState.SUCCEEDED
        seen = follow(backend, request.handle)
        assert len(seen.events(EventType.TRAIN_START)) == 1
        assert not seen.events(EventType.RESUMED)
        backend.down(request.handle)

    def test_a_run_that_fails(self, place: Place) -> None:
        backend, request = place.submit("fails", FAIL_AT="2", EXIT_CODE="3")
        seen = follow(backend, request.handle)
        end = place.end_of(backend, request.handle)
        assert end.state is RunState.FAILED
        assert end.exit_code in (None, 3)
        assert [event["exit_code"] for event in seen.events(EventType.END)] == [3]
        backend.down(request.handle)

    def test_a_run_that_is_cancelled_saves_first(self, place: Place) -> None:
        backend, request = place.submit("cancelled", STEPS="1000", STEP_S="0.3")
        seen = Followed()
        reader = threading.Thread(target=lambda: seen.lines.extend(follow(backend, request.handle).lines), daemon=True)
        place.wait_for(backend, request.handle, RunState.RUNNING)
        reader.start()
        self._wait_for_a_step(backend, request.handle, place)
        for _ in range(2):
            backend.cancel(request.handle)
        end = place.end_of(backend, request.handle)
        assert end.state is not RunState.SUCCEEDED
        reader.join(place.timeout_s)
        assert not reader.is_alive(), "a follower ends with the run"
        assert len(seen.events(EventType.CHECKPOINT)) == 1
        backend.down(request.handle)

    def _wait_for_a_step(self, backend: Backend, handle: str, place: Place) -> None:
        deadline = time.monotonic() + place.timeout_s
        while not any('"step"' in (line or "") for line in backend.logs(handle, follow=False)):
            assert time.monotonic() < deadline
            time.sleep(0.5)

    def test_a_run_that_never_was(self, place: Place) -> None:
        backend, request = place.request("never-was")
        assert backend.state(request.handle).state is RunState.LOST
        backend.down(request.handle)

    def test_a_rank_that_is_not_there(self, place: Place) -> None:
        backend, request = place.request("never-was")
        with pytest.raises(FtlError):
            backend.shell(request.handle, 7)
