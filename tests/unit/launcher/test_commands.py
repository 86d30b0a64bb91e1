"""launch, status, logs, cancel, resume, runs, above a backend in memory."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_launcher import cli
from ftl_launcher.backends import registry
from ftl_launcher.backends.protocol import BackendState
from ftl_launcher.paths import RunDir
from ftl_launcher.records import RunStore
from ftl_launcher.states import RunState
from tests.unit.launcher.fake_backend import STEPS, FakeBackend, event, installed


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    return installed(monkeypatch)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_launch_follows_and_records(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["launch", str(config_file), "--name", "one", "--seed", "5"]) == 0
    out, err = capsys.readouterr()
    assert "step 1/2  loss 2" in out
    assert "one: succeeded" in out
    assert "run one: this machine, 1 worker" in err
    record = store.get("one")
    assert (record.state, record.exit_code, record.metrics["step"]) == ("succeeded", 0, 2)
    assert "seed: 5" in RunDir.of("one").config.read_text()
    assert RunDir.of("one").plan.read_text() == record.plan


def test_name_may_come_from_the_config(backend: FakeBackend, config_file: Path, store: RunStore) -> None:
    config_file.write_text(config_file.read_text() + "launch:\n  name: from-config\n")
    cli.run(["launch", str(config_file), "--detach"])
    assert store.get("from-config").state == "starting"


def test_detached_launch_as_json(backend: FakeBackend, config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["launch", str(config_file), "--name", "one", "-d", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["handle"] == "local://one/ftl-one-1"


def test_followed_launch_as_json_prints_the_record_alone(
    backend: FakeBackend, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["launch", str(config_file), "--name", "one", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "succeeded"


def test_failure_of_the_run_is_the_exit_code(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    error = event("error", message="row 3 is not JSON", hint="fix it", exit_code=3)
    backend.lines = ["free text [red]not markup[/red]", error, event("end", status="failed", exit_code=3)]
    backend.answer = BackendState(RunState.FAILED, exit_code=3, message="Job failed")
    assert cli.run(["launch", str(config_file), "--name", "one"]) == 3
    out, err = capsys.readouterr()
    assert "[red]not markup[/red]" in out
    assert "error: row 3 is not JSON\n  hint: fix it" in err
    assert store.get("one").error == "row 3 is not JSON"


def test_a_backend_that_does_not_take_the_run(
    backend: FakeBackend, config_file: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: object, secrets: object) -> None:
        raise FtlError("no room")

    monkeypatch.setattr(backend, "submit", refuse)
    assert cli.run(["launch", str(config_file), "--name", "one"]) == 1
    assert (store.get("one").state, store.get("one").error) == ("failed", "no room")


def test_first_ctrl_c_cancels_a_local_run(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = event("checkpoint", step=1, uri="u", size_bytes=1, duration_s=1)
    backend.lines = [*STEPS[:2], None, checkpoint, event("end", status="preempted", exit_code=20)]
    backend.on_line = {2: press_ctrl_c}
    assert cli.run(["launch", str(config_file), "--name", "one"]) == 130
    assert backend.cancelled == ["local://one/ftl-one-1"]
    record = store.get("one")
    assert (record.state, record.cancel_requested, record.metrics["checkpoint_step"]) == ("cancelled", True, 1)
    assert "ftl resume one" in capsys.readouterr().err


def test_second_ctrl_c_detaches(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.lines = [STEPS[0], None, None, None, None]
    backend.on_line = {1: press_ctrl_c, 3: press_ctrl_c}
    assert cli.run(["launch", str(config_file), "--name", "one"]) == 0
    assert "detached" in capsys.readouterr().err
    assert store.get("one").state == "cancelling"


def test_ctrl_c_while_following_logs_only_detaches(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(["launch", str(config_file), "--name", "one", "-d"])
    backend.lines, backend.on_line = [None, None, None], {1: press_ctrl_c}
    assert cli.run(["logs", "-f", "one"]) == 0
    assert backend.cancelled == []
    assert "ftl logs -f one" in capsys.readouterr().err


def test_logs_are_readable_or_raw(backend: FakeBackend, config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["launch", str(config_file), "--name", "one", "-d"])
    backend.lines = ["text", STEPS[1], event("summary", metrics={}, files={})]
    capsys.readouterr()
    cli.run(["logs", "one"])
    assert capsys.readouterr().out == "text\nstep 1/2  loss 2\n"
    cli.run(["logs", "one", "--raw"])
    assert capsys.readouterr().out.splitlines() == backend.lines
    cli.run(["logs", "one", "--json"])
    parsed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert parsed[0] == {"text": "text"}
    assert (parsed[1]["type"], parsed[1]["step"]) == ("step", 1)


def test_cancel_waits_for_the_end(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.answer = BackendState(RunState.RUNNING)
    cli.run(["launch", str(config_file), "--name", "one", "-d"])
    assert cli.run(["cancel", "one"]) == 0
    assert store.get("one").state == "cancelled"
    assert "one: cancelled" in capsys.readouterr().err
    assert cli.run(["cancel", "one"]) == 0
    assert "already cancelled" in capsys.readouterr().err


def test_resume_submits_the_stored_config_again(
    backend: FakeBackend, config_file: Path, store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.answer = BackendState(RunState.FAILED, exit_code=1)
    backend.lines = []
    cli.run(["launch", str(config_file), "--name", "one"])
    config_file.unlink()
    backend.answer = BackendState(RunState.SUCCEEDED, exit_code=0)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1234")
    assert cli.run(["resume", "one"]) == 0
    first, second = backend.submitted
    assert second.plan.launch_number == 2
    assert second.plan.config_yaml == first.plan.config_yaml
    assert second.plan.env["FTL_RUN_ID"] == "one"
    assert second.plan.env["AWS_ENDPOINT_URL"] == "http://127.0.0.1:1234"
    assert store.get("one").handle == "local://one/ftl-one-2"


@pytest.mark.parametrize(("state", "message"), [("succeeded", "has finished"), ("running", "is running")])
def test_resume_refuses(
    state: str, message: str, backend: FakeBackend, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.answer = BackendState(RunState(state))
    cli.run(["launch", str(config_file), "--name", "one", "-d"])
    assert cli.run(["resume", "one"]) == 1
    assert message in capsys.readouterr().err


def test_a_name_is_launched_once(backend: FakeBackend, config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["launch", str(config_file), "--name", "one"])
    assert cli.run(["launch", str(config_file), "--name", "one"]) == 1
    assert "ftl resume one" in capsys.readouterr().err
    assert len(backend.submitted) == 1


def test_status_shows_progress(backend: FakeBackend, config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backend.answer = BackendState(RunState.RUNNING)
    cli.run(["launch", str(config_file), "--name", "one", "-d"])
    RunDir.of("one").driver_log.write_text("\n".join([*STEPS[:2], "half a li"]))
    capsys.readouterr()
    cli.run(["status"])
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("one")]
    assert "running" in line
    assert "1/2 (50%)" in line
    cli.run(["status", "one"])
    assert "1/2 (50%)" in capsys.readouterr().out
    cli.run(["status", "--json"])
    assert json.loads(capsys.readouterr().out)[0]["metrics"]["loss"] == 2.0


def test_runs_lists_filters_and_forgets(
    backend: FakeBackend, config_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(["launch", str(config_file), "--name", "one"])
    cli.run(["launch", str(config_file), "--name", "two", "-d"])
    capsys.readouterr()
    cli.run(["runs", "--json", "--state", "succeeded"])
    assert [run["name"] for run in json.loads(capsys.readouterr().out)] == ["one"]
    cli.run(["runs"])
    assert "two" in capsys.readouterr().out
    assert cli.run(["runs", "--forget", "two"]) == 1
    assert cli.run(["runs", "--forget", "one"]) == 0
    assert not RunDir.of("one").path.exists()
    assert cli.run(["status", "one"]) == 1


def test_follow_survives_a_noisy_terminal(
    backend: FakeBackend, config_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The live display takes every event and any text."""
    monkeypatch.setattr("ftl_launcher.console.is_terminal", lambda: True)
    backend.lines = [
        event("phase", phase="data", message="tokenizing"),
        "100%|████| 3/3 [00:00<00:00]\r 50%",
        "[/not] [markup",
        event("warning", message="slow disk [x]"),
        *STEPS,
        event("eval", step=2, eval_loss=1.0),
        event("checkpoint", step=2, uri="s3://b/2", size_bytes=10, duration_s=1.0),
        event("resumed", step=1, uri="s3://b/1", attempt=2),
        event("sample", prompt="p", base="[b]", tuned="t"),
        event("summary", metrics={"train_loss": 1.0, "runtime_s": 100, "curve": [1]}, files={"loss_curve": "x.png"}),
        event("end", status="succeeded", exit_code=0),
    ]
    assert cli.run(["launch", str(config_file), "--name", "one"]) == 0
    out = capsys.readouterr().out
    assert "slow disk [x]" in out
    assert "[/not] [markup" in out
    assert "x.png" in out
    assert "[bold]" not in out


def test_cancel_all_takes_the_live_runs(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.answer = BackendState(RunState.RUNNING)
    for name in ("one", "two"):
        cli.run(["launch", str(config_file), "--name", name, "-d"])
    store.update("two", state=RunState.SUCCEEDED)
    assert cli.run(["cancel", "--all"]) == 0
    assert backend.cancelled == ["local://one/ftl-one-1"]
    assert cli.run(["cancel"]) == 2
    assert cli.run(["cancel", "--all", "one"]) == 2


def test_status_of_a_run_that_nobody_followed_reads_its_log(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.answer = BackendState(RunState.RUNNING)
    cli.run(["launch", str(config_file), "--name", "one", "-d"])
    store.update("one", backend="docker")
    registry_of_docker = registry.BACKENDS["docker"]
    registry.BACKENDS["docker"] = registry.BACKENDS["local"]
    try:
        capsys.readouterr()
        assert cli.run(["status", "one", "--json"]) == 0
    finally:
        registry.BACKENDS["docker"] = registry_of_docker
    assert json.loads(capsys.readouterr().out)["metrics"]["step"] == 2
