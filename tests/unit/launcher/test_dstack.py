"""dstack's tasks against dstack's own models; what is asked of it, and what is made of its answers."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ftl_config.errors import FtlError
from ftl_launcher.backends.dstack import DstackBackend, _state
from ftl_launcher.backends.dstack_logs import tail_run
from ftl_launcher.backends.protocol import Request
from ftl_launcher.states import RunState
from ftl_launcher.submission import make_request
from tests.unit.launcher.plans import plan_of

STORED = sorted((Path(__file__).resolve().parents[2] / "golden/dstack").glob("*.yaml"))
FLAGS = ("--launch.backend=dstack", "--checkpoint=s3://bucket/runs", "--launch.image=ghcr.io/me/ftl:cuda")


@pytest.fixture(scope="module")
def task_model() -> Any:
    return pytest.importorskip("dstack.api").Task


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_tasks_are_what_dstack_takes(path: Path, task_model: Any) -> None:
    stored = yaml.safe_load(path.read_text())
    task = task_model.model_validate(stored)
    assert task.nodes_num == stored["nodes"]
    assert str(task.resources.gpu.count) == "8"
    assert task.retry.duration == 86400
    without_value = {name for name in task.env if not isinstance(task.env[name], str)}
    assert without_value == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "HF_TOKEN", "RAY_AUTH_TOKEN"}


def test_dstack_would_refuse_a_key_that_it_does_not_know(task_model: Any) -> None:
    with pytest.raises(ValueError, match="nodez"):
        task_model.model_validate({**yaml.safe_load(STORED[0].read_text()), "nodez": 2})


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_commands_are_valid_shell(path: Path) -> None:
    for command in yaml.safe_load(path.read_text())["commands"]:
        checked = subprocess.run(["bash", "-n"], input=command, capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr


def request_of(*flags: str, name: str = "run-1") -> Request:
    return make_request(plan_of(*FLAGS, *flags, name=name))[1]


@pytest.mark.parametrize(
    ("accelerators", "gpu"),
    [
        ("H100:8", {"vendor": "nvidia", "name": ["H100"], "count": 8}),
        ("A100-80GB:4", {"vendor": "nvidia", "name": ["A100"], "count": 4, "memory": "80GB.."}),
        ("[A100-80GB:8, A100-40GB:8, H100:8]", {"name": ["A100", "H100"], "count": 8, "memory": "40GB.."}),
        ("MI300X:8", {"vendor": "amd", "name": ["MI300X"], "count": 8}),
    ],
)
def test_gpus(accelerators: str, gpu: dict[str, Any], task_model: Any) -> None:
    payload = request_of(f"--launch.accelerators={accelerators}").payload
    assert {**payload["resources"]["gpu"], **gpu} == payload["resources"]["gpu"]
    assert task_model.model_validate(payload).resources.gpu.count.max == gpu["count"]


def test_a_run_without_gpus_asks_for_none(task_model: Any) -> None:
    assert task_model.model_validate(request_of("--launch.cpus=4+").payload).resources.gpu.count.max == 0


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--launch.image=",), "pull an image from a registry"),
        (("--launch.recovery.max-restarts-on-errors=2",), "does not count restarts"),
        (("--launch.file-mounts={/data: 's3://bucket'}",), "launch.file_mounts"),
        (("--launch.namespace=x",), "DSTACK_PROJECT"),
        (("--launch.accelerators=[H100:8, A100:4]",), "one number of GPUs"),
        (("--checkpoint=./here",), "vanish with it"),
    ],
)
def test_refusals(flags: tuple[str, ...], reason: str) -> None:
    with pytest.raises(FtlError, match=reason):
        request_of(*flags)


def test_a_name_that_is_too_long() -> None:
    with pytest.raises(FtlError, match="41 characters"):
        request_of(name="a" * 40)


def test_without_dstack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dstack", None)
    monkeypatch.setitem(sys.modules, "dstack.api", None)
    with pytest.raises(FtlError, match="not installed here") as caught:
        DstackBackend().submit(request_of(), {})
    assert "ftl-tune[dstack]" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("word", "state", "code"),
    [
        ("submitted", RunState.PENDING, None),
        ("pending", RunState.RECOVERING, None),
        ("running", RunState.RUNNING, None),
        ("failed", RunState.FAILED, 20),
        ("terminated", RunState.CANCELLED, None),
        ("done", RunState.SUCCEEDED, None),
    ],
)
def test_states(word: str, state: RunState, code: int | None) -> None:
    submission = SimpleNamespace(
        finished_at=None, exit_status=20, termination_reason_message=None, error=None, submitted_at=None
    )
    run = SimpleNamespace(
        status=SimpleNamespace(value=word),
        jobs=[SimpleNamespace(job_submissions=[])],
        error=None,
        termination_reason=None,
    )
    assert _state(run).state is state
    submission.submitted_at = SimpleNamespace(timestamp=lambda: 5.0)
    run.jobs[0].job_submissions.append(submission)
    assert _state(run).exit_code == code


def test_every_word_of_dstacks_has_a_state() -> None:
    models = pytest.importorskip("dstack._internal.core.models.runs")
    for status in models.RunStatus:
        _state(SimpleNamespace(status=status, jobs=[], error=None, termination_reason=None))


def page(*messages: bytes, token: str | None = None) -> Any:
    events = [SimpleNamespace(message=base64.b64encode(message)) for message in messages]
    return SimpleNamespace(logs=events, next_token=token)


def test_a_log_is_read_on_from_where_it_was_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ftl_launcher.backends.dstack_logs._POLL_S", 0.0)
    answers: Iterator[tuple[str | None, Any]] = iter(
        [
            (None, page(b"one\r\n", b"tw", token="2")),
            ("2", page(b"o\r\n", "dr\u00e9i".encode()[:3])),  # a letter cut in two
            ("2", page(b"o\r\n", "dr\u00e9i".encode()[:3], "dr\u00e9i".encode()[3:])),
        ]
    )
    finished = iter([False, True])
    job = SimpleNamespace(job_submissions=[SimpleNamespace(id="s1")])

    def ask() -> Any:
        over = next(finished)
        return SimpleNamespace(jobs=[job], status=SimpleNamespace(is_finished=lambda: over))

    def poll(*, next_token: str | None, **_: Any) -> Any:
        token, answer = next(answers)
        assert next_token == token
        return answer

    lines = tail_run(ask, poll, follow=True)
    assert [line for line in lines if line is not None] == ["one", "two", "dr\u00e9i"]
