"""The ray backend against a real Ray cluster that somebody else keeps: a `ray start` on ports of this test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ftl_launcher.upload import look_at_upload, read_ignore_file
from tests.services.ray_cluster import TOKEN, running_cluster

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

SECRET = "planted-secret-value-7Qx"
CONFIG = """\
base_model: org/model
datasets:
  - path: org/chats
    type: chat_template
micro_batch_size: 1
gradient_accumulation_steps: 1
num_epochs: 1
learning_rate: 1e-4
optimizer: adamw_torch
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    with running_cluster() as address:
        yield address


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("HF_TOKEN", SECRET)
    # The address of a run is never taken from here, once it is given.
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    (tmp_path / "config.yml").write_text(CONFIG + f"checkpoint: {tmp_path}/checkpoints\n")
    return tmp_path


def ftl(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ftl_launcher", *argv], capture_output=True, text=True, env={**os.environ, **env}
    )


def test_launch_follow_and_secrets(cluster: str) -> None:
    result = ftl(
        "launch", "config.yml", "--name", "r-one", "--ray-address", cluster, "--env", "STANDIN_PRINT_ENV=HF_TOKEN"
    )
    assert result.returncode == 0, result.stderr
    assert "step 5/5" in result.stdout
    assert "HF_TOKEN=***" in result.stdout
    assert SECRET not in result.stdout + result.stderr
    logs = ftl("logs", "r-one")
    assert "step 5/5" in logs.stdout
    assert "HF_TOKEN=***" in logs.stdout


def test_the_config_travels_with_the_job(cluster: str, project: Path) -> None:
    result = ftl("render", "config.yml", "--ray-address", cluster, "--name", "x")
    assert "base_model: org/model" in json.loads(result.stdout)["entrypoint"]


def test_detach_status_cancel_resume(cluster: str) -> None:
    flags = ("--ray-address", cluster, "--env", "STANDIN_STEPS=600", "--detach")
    assert ftl("launch", "config.yml", "--name", "r-two", *flags).returncode == 0
    deadline = time.monotonic() + 60
    while json.loads(ftl("status", "r-two", "--json").stdout)["state"] != "running":
        assert time.monotonic() < deadline
    time.sleep(5)
    cancelled = ftl("cancel", "r-two")
    assert cancelled.returncode == 0, cancelled.stderr
    assert json.loads(ftl("status", "r-two", "--json").stdout)["state"] == "cancelled"
    resumed = ftl("resume", "r-two", "--detach")
    assert resumed.returncode == 0, resumed.stderr
    followed = subprocess.Popen(
        [sys.executable, "-m", "ftl_launcher", "logs", "-f", "r-two"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert followed.stdout is not None
    for line in followed.stdout:
        if "resumed from step" in line:
            break
    followed.send_signal(signal.SIGINT)
    assert followed.wait(20) == 0  # detached: the run goes on
    assert json.loads(ftl("status", "r-two", "--json").stdout)["state"] == "running"
    ftl("cancel", "r-two")


def test_a_wrong_token_is_told_apart(cluster: str) -> None:
    result = ftl("launch", "config.yml", "--name", "r-three", "--ray-address", cluster, RAY_AUTH_TOKEN="f" * 64)
    assert result.returncode == 1
    assert "refuses the token" in result.stderr
    assert "Traceback" not in result.stderr


def test_ignored_files_do_not_travel(cluster: str, project: Path) -> None:
    """What .gitignore (also of an inner folder) and .ftlignore name; the look before the upload counts the same."""
    files = ("data.jsonl", "scratch.log", "big/weights.bin", "src/a.py", "src/a.tmp", ".venv/lib.py")
    for name in files:
        (project / name).parent.mkdir(exist_ok=True)
        (project / name).write_text("x" * 10)
    (project / ".gitignore").write_text("*.log\n")
    (project / "src/.gitignore").write_text("*.tmp\n")
    (project / ".ftlignore").write_text("# not needed there\nbig/\n")
    counted = {str(path) for path in look_at_upload(project, read_ignore_file(str(project))).sizes}
    flags = ("--launch.workdir", ".", "--ray-address", cluster, "--env", "STANDIN_LIST_FILES=1")
    result = ftl("launch", "config.yml", "--name", "r-files", *flags)
    assert result.returncode == 0, result.stderr
    [listed] = [line for line in ftl("logs", "r-files").stdout.splitlines() if line.startswith("files:")]
    assert set(listed.split()[1:]) == counted
    assert counted == {".ftlignore", ".gitignore", "config.yml", "data.jsonl", "src/.gitignore", "src/a.py"}
