"""The script that SkyPilot runs on the nodes, run here: one node, and two nodes on two loopback addresses."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from ftl_config.load import load_text
from ftl_launcher.plan import HostFacts, make_plan
from ftl_launcher.submission import make_request

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

STANDIN = Path(__file__).resolve().parent / "standin"
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
checkpoint: s3://bucket/runs
launch:
  cloud: slurm
"""
NODE_IPS = ("127.0.0.2", "127.0.0.3")


@dataclass
class Nodes:
    """Starts the run script as each rank would; every process group is ended at the end, by its id."""

    folder: Path
    num_nodes: int = 1
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, rank: int, **env: str) -> subprocess.Popen[str]:
        loaded = load_text(CONFIG, [f"--launch.nodes={self.num_nodes}"], name="config.yml")
        plan = make_plan(loaded, "run-1", HostFacts(workdir=str(self.folder)), ftl_version="1")
        script = yaml.safe_load(make_request(plan)[1].text)["run"]
        home = self.folder / f"home-{rank}"
        home.mkdir()
        variables = {
            **plan.env,
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(STANDIN),
            "SKYPILOT_NODE_RANK": str(rank),
            "SKYPILOT_NODE_IPS": "\n".join(NODE_IPS[: self.num_nodes]),
            "RAY_AUTH_TOKEN": "0" * 64,
            "FTL_CHECKPOINT_URI": str(self.folder / "checkpoints"),
            "SLURM_NTASKS": "99",
            **env,
        }
        process = subprocess.Popen(
            ["bash", "-c", script],
            env=variables,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    found = Nodes(tmp_path)
    yield found
    for process in found.started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_one_node(nodes: Nodes) -> None:
    head = nodes.start(0, STANDIN_PRINT_ENV="SLURM_NTASKS")
    output, _ = head.communicate(timeout=200)
    assert head.returncode == 0, output
    assert '"status":"succeeded"' in output
    assert "SLURM_NTASKS=None" in output
    assert (nodes.folder / "home-0/.ftl/runs/ftl-run-1-1/config.yml").read_text().startswith("base_model: org/model")


def test_the_runners_exit_code_is_the_jobs(nodes: Nodes) -> None:
    head = nodes.start(0, STANDIN_FAIL_AT="1", STANDIN_EXIT_CODE="3")
    output, _ = head.communicate(timeout=200)
    assert head.returncode == 3, output


def test_the_signal_that_takes_the_machine_away_saves_a_checkpoint(nodes: Nodes) -> None:
    """It comes twice, as SkyPilot sends it."""
    head = nodes.start(0, STANDIN_STEPS="4000")
    assert head.stdout is not None
    for line in head.stdout:
        if '"type":"step","step":3' in line:
            break
    head.send_signal(signal.SIGTERM)
    head.send_signal(signal.SIGTERM)
    output = head.stdout.read()
    assert head.wait(60) == 20
    assert '"type":"checkpoint"' in output


def test_two_nodes(nodes: Nodes) -> None:
    nodes.num_nodes = 2
    head, worker = nodes.start(0), nodes.start(1)
    output, _ = head.communicate(timeout=500)
    assert head.returncode == 0, output
    worker_output, _ = worker.communicate(timeout=60)
    assert worker.returncode == 0, worker_output


def test_a_missing_node_is_named(nodes: Nodes) -> None:
    nodes.num_nodes = 2
    head = nodes.start(0, FTL_JOIN_TIMEOUT_S="25")
    output, _ = head.communicate(timeout=200)
    assert head.returncode == 1
    assert "1 of 2 nodes joined" in output
    assert "missing: rank 1 (127.0.0.3)" in output


def test_a_head_whose_ray_cannot_start_says_so_at_once(nodes: Nodes) -> None:
    """Its port is taken: nobody waits for nodes that could not join."""
    with socket.create_server((NODE_IPS[0], 6479)):
        output, _ = nodes.start(0).communicate(timeout=300)  # the time to join is 900 s
    assert "ftl: Ray on the head has ended; its last words:" in output


def test_variables_of_the_node(nodes: Nodes) -> None:
    """Slurm's word for AMD's GPUs becomes Ray's, and gloo is told the interface of the node's address."""
    names = "HIP_VISIBLE_DEVICES,ROCR_VISIBLE_DEVICES,GLOO_SOCKET_IFNAME"
    env = {"STANDIN_PRINT_ENV": names, "ROCR_VISIBLE_DEVICES": "0,1", "SKYPILOT_NODE_IPS": "127.0.0.1"}
    output, _ = nodes.start(0, **env).communicate(timeout=200)
    assert "HIP_VISIBLE_DEVICES=0,1" in output
    assert "ROCR_VISIBLE_DEVICES=None" in output
    assert "GLOO_SOCKET_IFNAME=lo" in output


def test_a_worker_that_finds_no_head_says_so(nodes: Nodes) -> None:
    nodes.num_nodes = 2
    worker = nodes.start(1, FTL_JOIN_TIMEOUT_S="3")
    output, _ = worker.communicate(timeout=60)
    assert worker.returncode == 1
    assert "could not reach the head at 127.0.0.2:6479" in output
