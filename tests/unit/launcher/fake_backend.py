"""A backend in memory, for tests of what stands above backends. Offered to the registry by `installed`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

import pytest

from ftl_config.protocol import Event, EventType
from ftl_launcher.backends import registry
from ftl_launcher.backends.protocol import BackendState, Offer, Request
from ftl_launcher.plan import RunPlan
from ftl_launcher.states import RunState


def event(kind: str, **fields: Any) -> str:
    return f"::ftl:: {Event(EventType(kind), fields).to_json()}"


STEPS = [event("train_start", total_steps=2), *(event("step", step=n, total_steps=2, loss=2.0 / n) for n in (1, 2))]


class FakeBackend:
    """Says what it is told to say, and remembers what it was asked."""

    name = "local"
    state_needs_import = False

    def __init__(self) -> None:
        self.lines: list[str | None] = [*STEPS, event("end", status="succeeded", exit_code=0)]
        self.answer = BackendState(RunState.SUCCEEDED, exit_code=0)
        self.answer_after_cancel = BackendState(RunState.CANCELLED)
        self.offered: Offer | None = None
        self.submitted: list[Request] = []
        self.cancelled: list[str] = []
        self.on_line: dict[int, Any] = {}

    def refusals(self, plan: RunPlan) -> list[str]:
        return []

    def request(self, plan: RunPlan) -> Request:
        payload = {"name": plan.name, "launch": plan.launch_number}
        handle = f"local://{plan.name}/{plan.submission_id}"
        return Request("local", plan.name, handle, "job.json", json.dumps(payload), payload, plan)

    def offer(self, request: Request, secrets: Mapping[str, str]) -> Offer | None:
        return self.offered

    def submit(self, request: Request, secrets: Mapping[str, str]) -> None:
        self.submitted.append(request)

    def state(self, handle: str) -> BackendState:
        return self.answer_after_cancel if self.cancelled else self.answer

    def logs(self, handle: str, *, follow: bool) -> Iterator[str | None]:
        for index, line in enumerate(self.lines):
            if index in self.on_line:
                self.on_line[index]()
            yield line

    def cancel(self, handle: str) -> None:
        self.cancelled.append(handle)

    def down(self, handle: str) -> None:
        self.cancelled.append(handle)

    def shell(self, handle: str, rank: int) -> list[str]:
        return ["bash"]

    def dashboard(self, handle: str) -> str | None:
        return f"http://127.0.0.1:8265/#/jobs/{handle.rsplit('/', 1)[-1]}"


def installed(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    """Put a fake in the place of the local backend."""
    backend = FakeBackend()
    module = ModuleType("unit_fake_backend")
    module.BACKEND = backend  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "unit_fake_backend", module)
    monkeypatch.setitem(registry.BACKENDS, "local", "unit_fake_backend")
    return backend
