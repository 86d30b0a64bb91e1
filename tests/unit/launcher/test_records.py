"""Run records: durable, unique by name, safe between processes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_launcher.processes import process_tag
from ftl_launcher.records import RunStore
from ftl_launcher.refresh import refresh
from ftl_launcher.states import RunState
from tests.unit.launcher.plans import plan_of, record_of


def test_round_trip(store: RunStore) -> None:
    record = record_of(plan_of(), metrics={"step": 3, "losses": [1.5]}, cancel_requested=True)
    store.create(record)
    assert store.get("run-1") == record


def test_file_is_private(store: RunStore) -> None:
    store.create(record_of(plan_of()))
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600


def test_a_name_is_used_once(store: RunStore) -> None:
    store.create(record_of(plan_of()))
    with pytest.raises(FtlError, match="exists already") as caught:
        store.create(record_of(plan_of()))
    assert "ftl resume run-1" in (caught.value.hint or "")


def test_unknown_name_gets_a_close_match(store: RunStore) -> None:
    store.create(record_of(plan_of(name="llama-lora")))
    with pytest.raises(FtlError) as caught:
        store.get("lama-lora")
    assert caught.value.hint == "did you mean llama-lora?"


def test_updates_keep_what_they_do_not_name(store: RunStore) -> None:
    store.create(record_of(plan_of()))
    store.update("run-1", state=RunState.RUNNING, metrics={"step": 1})
    record = store.update("run-1", exit_code=0, state=RunState.SUCCEEDED)
    assert (record.state, record.metrics, record.exit_code) == ("succeeded", {"step": 1}, 0)


def test_a_forbidden_move_is_left_out(store: RunStore) -> None:
    store.create(record_of(plan_of(), state=RunState.SUCCEEDED))
    assert store.update("run-1", state=RunState.RUNNING).state is RunState.SUCCEEDED


def test_live_runs_can_be_listed_alone(store: RunStore) -> None:
    store.create(record_of(plan_of(name="old"), state=RunState.FAILED, created_at=1.0))
    store.create(record_of(plan_of(name="new"), state=RunState.RUNNING, created_at=2.0))
    assert [record.name for record in store.list()] == ["new", "old"]
    assert [record.name for record in store.list(live_only=True)] == ["new"]
    assert [record.name for record in store.list(limit=1)] == ["new"]


def test_resume_claims_once(store: RunStore) -> None:
    store.create(record_of(plan_of(), state=RunState.FAILED, exit_code=1, error="x"))
    claim = {"submitter": "1:1", "handle": "h2", "plan": "{}", "launch_number": 2}
    store.claim_for_resume("run-1", **claim)  # type: ignore[arg-type]
    record = store.get("run-1")
    assert (record.state, record.launch_number, record.error, record.handle) == ("submitting", 2, None, "h2")
    with pytest.raises(FtlError, match="cannot be resumed"):
        store.claim_for_resume("run-1", **claim)  # type: ignore[arg-type]


def test_records_of_a_newer_ftl_are_left_alone(store: RunStore) -> None:
    store.create(record_of(plan_of()))
    with sqlite3.connect(store.path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(FtlError, match="newer ftl"):
        store.list()


def test_unwritable_folder_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FtlError, match="cannot open the run records"):
        RunStore(tmp_path / "file" / "runs.sqlite3").list()


def test_a_file_that_is_no_database_is_a_user_error(tmp_path: Path) -> None:
    (tmp_path / "runs.sqlite3").write_text("not a database, whatever its name says" * 50)
    with pytest.raises(FtlError, match="cannot open the run records"):
        RunStore(tmp_path / "runs.sqlite3").list()


_RACER = """
import sys, time
from ftl_config.errors import FtlError
from ftl_launcher.paths import records_file
from ftl_launcher.records import RunStore
from tests.unit.launcher.plans import plan_of, record_of
record = record_of(plan_of())
print("ready", flush=True)
sys.stdin.readline()
try:
    RunStore(records_file()).create(record)
    print("won")
except FtlError as error:
    print("lost", error.message)
"""


def _start(script: str) -> subprocess.Popen[str]:
    path = str(Path(__file__).resolve().parents[2])
    return subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def test_of_two_terminals_that_race_for_a_name_one_wins() -> None:
    """The file does not exist yet either: both create it at the same moment."""
    racers = [_start(_RACER) for _ in range(4)]
    for racer in racers:
        assert racer.stdout is not None
        assert racer.stdout.readline() == "ready\n"
    outcomes = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("go\n")
        racer.stdin.flush()
    for racer in racers:
        outcomes.append(racer.communicate(timeout=30)[0].strip())
    assert sorted(outcome.split()[0] for outcome in outcomes) == ["lost", "lost", "lost", "won"]
    assert all("exists already" in outcome for outcome in outcomes if outcome != "won")


_WRITERS = """
import sys
from ftl_launcher.paths import records_file
from ftl_launcher.records import RunStore
store = RunStore(records_file())
for step in range(50):
    store.update("run-1", metrics={"step": step, "who": sys.argv[-1]})
print("done")
"""


def test_writers_wait_for_each_other(store: RunStore) -> None:
    store.create(record_of(plan_of()))
    writers = [_start(_WRITERS) for _ in range(3)]
    assert [writer.communicate(timeout=60)[0].strip() for writer in writers] == ["done"] * 3
    assert store.get("run-1").metrics["step"] == 49


_KILLED = """
import os, sys, time
from ftl_launcher.backends.protocol import Request
from ftl_launcher.paths import records_file
from ftl_launcher.records import RunStore
from ftl_launcher.submission import submit_new
from tests.unit.launcher.plans import plan_of

class Hanging:
    name = "local"
    def submit(self, request, secrets):
        print("submitting", flush=True)
        time.sleep(60)

plan = plan_of()
request = Request("local", plan.name, "local://run-1/ftl-run-1-1", "job.json", "{}", {}, plan)
submit_new(RunStore(records_file()), Hanging(), request, {})
"""


def test_a_launcher_killed_while_submitting_leaves_a_record_that_settles(store: RunStore) -> None:
    launcher = _start(_KILLED)
    assert launcher.stdout is not None
    assert launcher.stdout.readline() == "submitting\n"
    record = store.get("run-1")
    assert record.state is RunState.SUBMITTING
    assert refresh(store, record).state is RunState.SUBMITTING  # its launcher is alive: hands off
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    record = refresh(store, store.get("run-1"))
    assert record.state is RunState.FAILED
    assert record.error is not None
    assert "before the run was submitted" in record.error
    assert json.loads(record.plan)["name"] == "run-1"


def test_a_reused_pid_is_not_taken_for_the_submitter(store: RunStore) -> None:
    mine = process_tag().split(":")[0]
    store.create(record_of(plan_of(), submitter=f"{mine}:1"))
    assert refresh(store, store.get("run-1")).state is RunState.FAILED
