"""down, queue, ssh, open, and the question before anything is rented, above a backend in memory."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from ftl_config.errors import FtlError
from ftl_launcher import cli
from ftl_launcher.backends.protocol import BackendState, Offer
from ftl_launcher.backends.skypilot_offer import ask_for_offer, chosen_offer
from ftl_launcher.credentials import check_credentials, clouds_with_credentials
from ftl_launcher.records import RunStore
from ftl_launcher.states import RunState
from ftl_launcher.submission import make_request
from tests.unit.launcher.fake_backend import FakeBackend, installed
from tests.unit.launcher.plans import load, plan_of


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> FakeBackend:
    return installed(monkeypatch)


@pytest.fixture
def running(backend: FakeBackend, config_file: Path) -> FakeBackend:
    backend.answer = BackendState(RunState.RUNNING)
    for name in ("one", "two"):
        assert cli.run(["launch", str(config_file), "--name", name, "-d"]) == 0
    return backend


def test_what_costs_money_is_not_launched_without_a_yes(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.offered = Offer("AWS p4d.24xlarge", 32.77)
    assert cli.run(["launch", str(config_file), "--name", "one", "-d"]) == 2
    assert "AWS p4d.24xlarge: $32.77 an hour" in capsys.readouterr().err
    assert (backend.submitted, store.list()) == ([], [])
    assert cli.run(["launch", str(config_file), "--name", "one", "-d", "--yes"]) == 0
    assert "$32.77 an hour" in capsys.readouterr().err
    assert len(backend.submitted) == 1


@pytest.mark.parametrize(("answer", "code", "launches"), [("y\n", 0, 1), ("n\n", 130, 0), ("\n", 130, 0)])
def test_the_terminal_is_asked(
    answer: str,
    code: int,
    launches: int,
    backend: FakeBackend,
    config_file: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdin", terminal)
    backend.offered = Offer("somewhere", None)
    assert cli.run(["launch", str(config_file), "--name", "one", "-d"]) == code
    assert len(backend.submitted) == launches


TABLE = """\
Considered resources (2 nodes):
-------------------------------------------------------------------------------------
 INFRA              INSTANCE          vCPUs   Mem(GB)   GPUS     COST ($)   CHOSEN
-------------------------------------------------------------------------------------
 AWS (us-east-1b)   g5.xlarge[Spot]   4       16        A10G:1   0.80       \x1b[32m   ✔\x1b[0m
 AWS (us-west-2b)   g5.xlarge[Spot]   4       16        A10G:1   0.95
-------------------------------------------------------------------------------------
"""
"""As SkyPilot 0.14.1 printed it, asked through its API server."""


def test_the_offer_is_the_chosen_line() -> None:
    assert chosen_offer(TABLE) == Offer("AWS (us-east-1b)", 0.80)
    assert chosen_offer("nothing that is known") == Offer("SkyPilot's choice", None)


def test_without_an_offer_skypilots_reason_is_told() -> None:
    _, request = make_request(plan_of("--launch.cloud=aws", "--checkpoint=s3://b"))
    with pytest.raises(FtlError, match="no offer"):
        ask_for_offer(SimpleNamespace(), request, {})


def test_down_frees_and_asks_first(
    running: FakeBackend, store: RunStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["down"]) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    assert cli.run(["down", "one"]) == 130, "nobody said yes"
    assert running.cancelled == []
    assert cli.run(["down", "--all", "--yes"]) == 0
    assert sorted(running.cancelled) == ["local://one/ftl-one-1", "local://two/ftl-two-1"]
    assert {record.state for record in store.list()} == {RunState.CANCELLED}


def test_queue_is_in_order_of_submission(running: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.run(["queue", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["position"], row["name"]) for row in rows] == [(1, "one"), (2, "two")]
    assert {row["state"] for row in rows} == {"running"}
    assert cli.run(["queue"]) == 0
    assert "two" in capsys.readouterr().out
    running.answer = BackendState(RunState.SUCCEEDED)
    assert cli.run(["queue"]) == 0
    assert "nothing waits or runs" in capsys.readouterr().err


def test_ssh_gives_the_commands_exit_code(running: FakeBackend) -> None:
    assert cli.run(["ssh", "one", "--", "exit 7"]) != 0
    assert cli.run(["ssh", "one", "--", "sh", "-c", "exit 7"]) == 7


def test_open_prints_the_page(running: FakeBackend, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert cli.run(["open", "one", "--print"]) == 0
    assert capsys.readouterr().out == "http://127.0.0.1:8265/#/jobs/ftl-one-1\n"


def test_check_tells_everything_at_once(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    flags = ["--base-model", "./missing", "--secret", "NOT_SET", "--launch.spot"]
    assert cli.run(["check", str(config_file), *flags, "--json"]) == 2
    found = {row["what"]: row for row in json.loads(capsys.readouterr().out)}
    assert {what for what, row in found.items() if row["status"] == "error"} == {
        "local",
        "secrets",
        "files",
        "model and rows",
    }
    assert "NOT_SET" in found["secrets"]["detail"]
    assert found["config"]["status"] == "ok"
    assert RunStore(tmp_path / "none").path.exists() is False


def test_check_says_what_it_would_cost(
    backend: FakeBackend, config_file: Path, store: RunStore, capsys: pytest.CaptureFixture[str]
) -> None:
    backend.offered = Offer("AWS p4d.24xlarge", 32.77)
    cli.run(["check", str(config_file)])
    assert "AWS p4d.24xlarge, $32.77 an hour" in capsys.readouterr().out.replace("\n", " ")
    assert (backend.submitted, store.list()) == ([], [])


def test_credentials_are_looked_for_before_a_cloud_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cloud with credentials will do; a machine without any may still have a role, so it is no error."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "SKYPILOT_API_SERVER_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    flags = ("--launch.cloud=lambda,aws", "--launch.accelerators=H100:1", "--checkpoint=s3://bucket/x")
    loaded, plan = load(*flags), plan_of(*flags)
    assert "no credentials for Lambda here" in (check_credentials(loaded, plan, {}) or "")
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws/credentials").write_text("[default]\n")
    assert check_credentials(loaded, plan, {}) is None
    assert clouds_with_credentials() == {"aws": "~/.aws/credentials"}
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "https://sky.example.com")
    assert check_credentials(*(load("--launch.cloud=lambda"), plan_of("--launch.cloud=lambda")), {}) is None
