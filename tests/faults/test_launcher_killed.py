"""kill -9 to `ftl launch` at line after line of a submission, against a real Ray cluster: no run is lost from view."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ftl_launcher.backends import ray_http
from ftl_launcher.backends.ray_http import Endpoint
from tests.full_matrix import FULL_MATRIX
from tests.services.ray_cluster import TOKEN
from tests.services.test_ray_backend import CONFIG, cluster

__all__ = ["cluster"]
pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(900)]

HERE = Path(__file__).resolve().parent
NUM_POINTS = 200 if FULL_MATRIX else 16
LIVE = ("pending", "starting", "running", "succeeded")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    (tmp_path / "config.yml").write_text(CONFIG + f"checkpoint: {tmp_path}/checkpoints\n")
    return tmp_path


def ftl(*argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ftl_launcher", *argv]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})


def launch(cluster: str, name: str, line: int, project: Path) -> int:
    """Exit code of a detached launch that dies at that line."""
    traced = {"PYTHONPATH": str(HERE / "killed_at_line"), "KILLED_AT_LINE": str(line)}
    flags = ("--ray-address", cluster, "--env", "STANDIN_STEPS=1", "--skip-checks", "-d")
    return ftl("launch", "config.yml", "--name", name, *flags, **traced, LINES_FILE=str(project / "lines")).returncode


def test_every_run_is_found_or_was_never_there(cluster: str, project: Path) -> None:
    assert launch(cluster, "first", 0, project) == 0  # makes the file of records, which takes lines of its own
    assert launch(cluster, "whole", 0, project) == 0
    num_lines = int((project / "lines").read_text())
    assert num_lines > 40
    lines = range(1, num_lines + 1, max(1, num_lines // NUM_POINTS))
    told = {line: _fate(cluster, f"killed-{line}", line, project) for line in lines}
    # The sweep has seen all there is to see: no trace, a record without a job, and a job.
    assert set(told.values()) == {"never was", "not submitted", "found"}, told


def _fate(cluster: str, name: str, line: int, project: Path) -> str:
    assert launch(cluster, name, line, project) == -signal.SIGKILL
    is_there = ray_http.job_state(Endpoint(cluster, TOKEN), f"ftl-{name}-1").state != "lost"
    status = ftl("status", name, "--json")
    if status.returncode:
        assert f"no run named '{name}'" in status.stderr
        assert not is_there, f"line {line}: a job runs that no record knows"
        return "never was"
    record = json.loads(status.stdout)
    if is_there:
        assert record["state"] in LIVE, f"line {line}: {record}"
        return "found"
    assert (record["state"], record["error"]) == (
        "failed",
        "the launcher ended before the run was submitted; nothing runs",
    ), f"line {line}: {record}"
    return "not submitted"


def test_a_run_that_was_not_submitted_can_be_resumed(cluster: str, project: Path) -> None:
    for line in range(30, 400, 20):
        if _fate(cluster, f"again-{line}", line, project) == "not submitted":
            resumed = ftl("resume", f"again-{line}")
            assert resumed.returncode == 0, resumed.stderr
            return
    pytest.fail("no line left a record without a job")
