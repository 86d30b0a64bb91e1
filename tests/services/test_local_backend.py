"""The local backend with a real embedded Ray; the stand-in runner keeps it quick. Nothing here trains."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ftl_launcher.backends.local import LocalBackend
from ftl_launcher.paths import RunDir, records_file
from ftl_launcher.processes import descendants, is_alive
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.refresh import refresh

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

STANDIN = Path(__file__).resolve().parent / "standin"
SECRET = "planted-secret-value-7Qx"
CONFIG = """\
base_model: org/model
datasets:
  - path: ./data.jsonl
    type: chat_template
micro_batch_size: 1
gradient_accumulation_steps: 1
num_epochs: 1
learning_rate: 1e-4
optimizer: adamw_torch
checkpoint: ./checkpoints
output_dir: ./out
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A project folder with a config; every watchdog that a test leaves behind is ended by its pid."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(STANDIN))
    monkeypatch.setenv("HF_TOKEN", SECRET)
    (tmp_path / "data.jsonl").write_text('{"messages": []}\n')
    (tmp_path / "config.yml").write_text(CONFIG)
    yield tmp_path
    for head in (records_file().parent / "runs").glob("*/head.json"):
        tag = json.loads(head.read_text())["watchdog"]
        if is_alive(tag):
            os.kill(int(tag.split(":")[0]), signal.SIGTERM)


def ftl(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ftl_launcher", *argv], capture_output=True, text=True, env={**os.environ, **env}
    )


def record(name: str) -> RunRecord:
    return RunStore(records_file()).get(name)


def wait_for(condition: Callable[[], bool], timeout_s: float = 90.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "timed out"
        time.sleep(0.2)


def watchdog_is_gone(name: str) -> bool:
    return not is_alive(json.loads(RunDir.of(name).head.read_text())["watchdog"])


def test_a_run_from_launch_to_record(project: Path) -> None:
    result = ftl("launch", "config.yml", "--name", "good", STANDIN_PRINT_ENV="HF_TOKEN")
    assert result.returncode == 0, result.stderr
    assert "step 5/5  loss 0.8" in result.stdout
    assert "good: succeeded" in result.stdout
    found = record("good")
    assert found.state == "succeeded"
    assert found.exit_code == 0
    assert found.metrics["step"] == 5
    assert found.metrics["summary"] == {"train_loss": 0.8, "runtime_s": 1.5}
    assert found.checkpoint_uri == f"{project}/checkpoints/good"
    assert (project / "checkpoints/good/step").read_text() == "5"
    assert found.created_at < (found.started_at or 0) < (found.ended_at or 0)
    _assert_secret_is_nowhere(result)
    wait_for(lambda: watchdog_is_gone("good"))
    _assert_nothing_is_left("good")


def _assert_secret_is_nowhere(result: subprocess.CompletedProcess[str]) -> None:
    """The stand-in printed the token, so it reached the run: the launcher shows it cut out, and wrote it nowhere."""
    assert "HF_TOKEN=***" in result.stdout
    assert SECRET not in result.stdout + result.stderr
    run_dir = RunDir.of("good")
    written = [path for path in records_file().parent.rglob("*") if path.is_file() and path != run_dir.driver_log]
    assert run_dir.plan in written
    assert [path for path in written if SECRET.encode() in path.read_bytes()] == []
    with sqlite3.connect(records_file()) as db:
        assert SECRET not in "\n".join(db.iterdump())


def _assert_nothing_is_left(name: str) -> None:
    head = json.loads(RunDir.of(name).head.read_text())
    assert not Path(head["temp_dir"]).exists()
    assert not is_alive(f"{head['ray_pid']}:0")
    assert not RunDir.of(name).token(1).exists()
    assert RunDir.of(name).driver_log.is_file()
    assert not RunDir.of(name).driver_log.is_symlink()


def test_a_failure_keeps_the_runners_exit_code_and_words_and_can_be_resumed() -> None:
    result = ftl("launch", "config.yml", "--name", "bad", STANDIN_FAIL_AT="2", STANDIN_EXIT_CODE="10")
    assert result.returncode == 10
    assert "error: the loss became NaN" in result.stderr
    assert "hint: lower the learning rate" in result.stderr
    assert (record("bad").state, record("bad").exit_code) == ("failed", 10)
    again = ftl("launch", "config.yml", "--name", "bad")
    assert again.returncode == 1
    assert "exists already" in again.stderr
    resumed = ftl("resume", "bad")
    assert resumed.returncode == 0, resumed.stderr
    assert record("bad").launch_number == 2
    assert RunDir.of("bad").log_of(1).exists()
    assert "finished" in ftl("resume", "bad").stderr


def test_cancel_saves_and_resume_goes_on() -> None:
    started = ftl("launch", "config.yml", "--name", "long", "--detach", STANDIN_STEPS="400")
    assert started.returncode == 0, started.stderr
    wait_for(lambda: json.loads(ftl("status", "long", "--json").stdout)["metrics"].get("step", 0) > 3)
    live = json.loads(ftl("status", "long", "--json").stdout)
    assert live["state"] == "running"
    cancelled = ftl("cancel", "long")
    assert cancelled.returncode == 0, cancelled.stderr
    found = record("long")
    assert found.state == "cancelled"
    saved = found.metrics["checkpoint_step"]
    assert 3 < saved < 400
    assert "last checkpoint: step" in cancelled.stderr
    resumed = ftl("resume", "long", STANDIN_STEPS=str(saved + 5))
    assert resumed.returncode == 0, resumed.stderr
    assert f"resumed from step {saved}" in resumed.stdout
    assert record("long").metrics["resumed_from"] == saved


def test_ctrl_c_on_a_followed_run_cancels_it_gracefully() -> None:
    launcher = subprocess.Popen(
        [sys.executable, "-m", "ftl_launcher", "launch", "config.yml", "--name", "pressed"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "STANDIN_STEPS": "400"},
    )
    assert launcher.stdout is not None
    for line in launcher.stdout:
        if line.startswith("step   3/"):
            launcher.send_signal(signal.SIGINT)
            break
    output = launcher.stdout.read()
    assert launcher.wait(60) == 130
    assert "saves a checkpoint first" in output
    assert record("pressed").state == "cancelled"
    assert record("pressed").metrics["checkpoint_step"] >= 3


def test_killed_watchdog_takes_its_ray_along_and_the_run_is_lost() -> None:
    assert ftl("launch", "config.yml", "--name", "shot", "--detach", STANDIN_STEPS="4000").returncode == 0
    head = json.loads(RunDir.of("shot").head.read_text())
    watchdog = int(head["watchdog"].split(":")[0])
    family = descendants(watchdog)
    assert head["ray_pid"] in family
    os.kill(watchdog, signal.SIGKILL)
    wait_for(lambda: not any(is_alive(f"{pid}:0") for pid in family), 60)
    store = RunStore(records_file())
    assert refresh(store, store.get("shot")).state == "lost"
    assert ftl("resume", "shot", STANDIN_STEPS="3").returncode == 0
    assert not Path(head["temp_dir"]).exists()


def test_launcher_killed_before_the_job_was_submitted(monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 while Ray is starting: the watchdog gives up by itself and the record says that nothing ran."""
    launcher = subprocess.Popen(
        [sys.executable, "-m", "ftl_launcher", "launch", "config.yml", "--name", "early"], stderr=subprocess.DEVNULL
    )
    head = RunDir.of("early").head
    wait_for(lambda: head.exists())
    launcher.kill()
    launcher.wait()
    assert record("early").state == "submitting"
    watchdog = int(json.loads(head.read_text())["watchdog"].split(":")[0])
    os.kill(watchdog, signal.SIGTERM)  # what its own timeout of 90 s would do
    wait_for(lambda: watchdog_is_gone("early"))
    store = RunStore(records_file())
    assert refresh(store, store.get("early")).state.can_resume


def test_two_runs_at_once_do_not_meet() -> None:
    launchers = [
        subprocess.Popen(
            [sys.executable, "-m", "ftl_launcher", "launch", "config.yml", "--name", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "STANDIN_STEPS": "60"},
        )
        for name in ("left", "right")
    ]
    outputs = [launcher.communicate(timeout=240)[0] for launcher in launchers]
    assert [launcher.returncode for launcher in launchers] == [0, 0], outputs
    addresses = {json.loads(RunDir.of(name).head.read_text())["address"] for name in ("left", "right")}
    assert len(addresses) == 2


def test_a_taken_port_is_answered_by_other_ports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The first choice of ports holds one that something else listens on already."""
    hook = tmp_path / "hook"
    hook.mkdir()
    (hook / "sitecustomize.py").write_text(
        "import sys\n"
        "if any('local_head' in arg for arg in sys.orig_argv):\n"
        "    import socket\n"
        "    from ftl_launcher.backends import local_head\n"
        "    real, calls = local_head.free_ports, []\n"
        "    def first_taken(count):\n"
        "        ports = real(count)\n"
        "        if not calls:\n"
        "            calls.append(socket.create_server(('127.0.0.1', ports[0])))\n"
        "        return ports\n"
        "    import runpy\n"
        "    local_head.free_ports = first_taken\n"
        "    sys.exit(local_head.main(sys.orig_argv[-1]))\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{hook}{os.pathsep}{STANDIN}")
    result = ftl("launch", "config.yml", "--name", "crowded")
    assert result.returncode == 0, result.stderr
    assert "did not come up" in RunDir.of("crowded").head_log.read_text()


def test_a_state_can_be_asked_of_a_run_that_never_was() -> None:
    assert LocalBackend().state("local://nobody/ftl-nobody-1").state == "lost"
