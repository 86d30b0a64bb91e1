"""`ftl launch --cloud slurm`: SkyPilot, a real Slurm cluster of two nodes, Ray over both, checkpoints in S3.

The cluster is tests/services/slurm/cluster.sh. One run: a node dies in the middle, and the run goes on by itself.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.runs import ConformingRuns, Place
from tests.e2e.ftl_cli import Ftl, losses, wait_for, write_config
from tests.full_matrix import full_matrix
from tests.services.ray_cluster import STANDIN
from tests.services.s3 import ROOT, S3Server
from tests.services.slurm.onprem import OnPrem, cannot_run, running_cluster

pytestmark = [
    pytest.mark.service,
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(cannot_run() is not None, reason=str(cannot_run())),
    full_matrix,
]

STEPS = 300
SAVE_STEPS = 20


@pytest.fixture(scope="module")
def onprem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnPrem]:
    with running_cluster(tmp_path_factory.mktemp("sky") / "home") as cluster:
        yield cluster


@pytest.fixture
def settings(tiny_model: Path, small_data: Path, tmp_path: Path) -> dict[str, Any]:
    """What is uploaded lies in the folder that ftl is called in."""
    shutil.copytree(tiny_model, tmp_path / "work/tiny")
    shutil.copy(small_data, tmp_path / "work/train.jsonl")
    return {
        "base_model": "./tiny",
        "datasets": [{"path": "train.jsonl", "type": "chat_template"}],
        "sequence_len": 512,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "max_steps": STEPS,
        "save_steps": SAVE_STEPS,
        "save_total_limit": 100,
        "learning_rate": 1e-3,
        "lr_scheduler": "constant",
        "optimizer": "adamw_torch",
        "logging_steps": 1,
        "seed": 7,
        "generate_samples": False,
    }


def test_a_run_over_two_nodes_outlives_one_of_them(
    onprem: OnPrem, s3_server: S3Server, settings: dict[str, Any], tmp_path: Path
) -> None:
    launch = {
        "cloud": "slurm",
        "nodes": 2,
        "cpus": 2,
        "workdir": ".",
        "venv": sys.prefix,
        "env": {"PYTHONPATH": f"{ROOT}/launcher:{ROOT}/runner", "OMP_NUM_THREADS": "1"},
    }
    settings |= {"checkpoint": f"s3://{s3_server.bucket}/slurm", "launch": launch}
    config = write_config(tmp_path / "work/config.yml", settings)
    ftl = Ftl(tmp_path / "ftl", tmp_path / "work", {**onprem.environment, **s3_server.environment})
    ftl.run("launch", str(config), "--name", "tiny", "--detach", timeout_s=400)

    first = f"checkpoint-{SAVE_STEPS}/"
    wait_for(lambda: first in keys_of(s3_server), "a checkpoint", timeout_s=400, interval_s=0.5)
    onprem.script("kill-node", "n2")
    assert ftl.status("tiny")["state"] in ("running", "recovering")
    onprem.script("up")  # the machine is repaired; SkyPilot waits for two nodes

    followed = ftl.run("logs", "-f", "tiny", check=False, timeout_s=700)
    status = ftl.status("tiny")
    assert status["state"] == "succeeded", followed.stdout[-5000:] + followed.stderr[-2000:]
    assert status["metrics"]["attempt"] == 2
    assert 0 < status["metrics"]["start_step"] < STEPS
    assert status["metrics"]["start_step"] % SAVE_STEPS == 0
    assert s3_server.environment["AWS_SECRET_ACCESS_KEY"] not in followed.stdout

    found = json.loads(get(s3_server, "slurm/tiny/final/metrics.json"))
    over_two = {row["step"]: row["loss"] for row in found["history"] if "loss" in row}
    assert over_two == pytest.approx(losses_of_one_machine(ftl, settings, tmp_path), rel=1e-5)


def test_a_launch_goes_on_without_its_launcher(onprem: OnPrem, tmp_path: Path, settings: dict[str, Any]) -> None:
    """kill -9 once SkyPilot has the request: the run is found by its name, is there once, and can be cancelled."""
    launch = {"cloud": "slurm", "cpus": 1, "workdir": ".", "venv": sys.prefix}
    settings |= {"checkpoint": f"file://{tmp_path}/checkpoints", "launch": launch}
    config = write_config(tmp_path / "work/config.yml", settings)
    ftl = Ftl(tmp_path / "ftl", tmp_path / "work", onprem.environment)
    launcher = ftl.start("launch", str(config), "--name", "orphan", "--detach")
    wait_for(lambda: "jobs.launch" in onprem.sky("api", "status").stdout, "the request", interval_s=0.1)
    launcher.kill()
    launcher.wait()
    assert ftl.status("orphan")["state"] in ("pending", "starting", "running")

    plan = json.loads((ftl.home / "runs/orphan/plan.json").read_text())
    again = ftl.run("launch", str(config), "--name", "orphan", "--detach", check=False)
    assert "exists already" in again.stderr
    _submit_once_more(plan, onprem)
    assert onprem.sky("jobs", "queue", "--all").stdout.count("ftl-orphan") == 1
    ftl.run("cancel", "orphan", "--no-wait")
    wait_for(lambda: ftl.status("orphan")["state"] == "cancelled", "its end", interval_s=2)


def _submit_once_more(plan: dict[str, Any], onprem: OnPrem) -> None:
    """The same launch handed over again, as a launcher does that got no answer."""
    code = (
        "import sys; from ftl_launcher.plan import RunPlan; from ftl_launcher.submission import make_request\n"
        "backend, request = make_request(RunPlan.from_json(sys.stdin.read())); backend.submit(request, {})"
    )
    environment = {**os.environ, **onprem.environment}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, input=json.dumps(plan), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def losses_of_one_machine(ftl: Ftl, settings: dict[str, Any], tmp_path: Path) -> dict[int, float]:
    """The same run by two processes side by side, uninterrupted."""
    alone = {**settings, "output_dir": str(tmp_path / "alone"), "launch": None, "checkpoint": None}
    config = write_config(tmp_path / "work/alone.yml", alone)
    ftl.run("train", str(config), "--launcher", "torchrun", "--", "--nproc_per_node=2")
    return losses(tmp_path / "alone")


def keys_of(server: S3Server) -> str:
    return _aws(server, "print(*[o['Key'] for o in s3.list_objects_v2(Bucket=b).get('Contents', [])], sep='\\n')")


def get(server: S3Server, key: str) -> str:
    return _aws(server, f"print(s3.get_object(Bucket=b, Key={key!r})['Body'].read().decode())")


def _aws(server: S3Server, code: str) -> str:
    """boto3 in a process of its own: its sessions remember the credentials of other tests."""
    code = f"import boto3; s3 = boto3.client('s3'); b = {server.bucket!r}; {code}"
    environment = {**os.environ, **server.environment}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True).stdout


class TestConformance(ConformingRuns):
    @pytest.fixture
    def place(self, onprem: OnPrem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
        for name, value in onprem.environment.items():
            monkeypatch.setenv(name, value)
        launch = {"cloud": "slurm", "cpus": "1", "venv": sys.prefix}
        env = {"PYTHONPATH": f"{STANDIN}:{ROOT}/launcher:{ROOT}/runner"}
        return Place(launch, f"file://{tmp_path}/checkpoints", tmp_path, timeout_s=400, env=env)
