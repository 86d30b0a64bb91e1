"""The checks through Ray: what a cluster lacks, whose clock is off, and real tasks on a real Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from ftl_config.preflight import Outcome
from ftl_runner.preflight.node import Node
from ftl_runner.preflight.ray_nodes import Workers, _names, judged_together, room_for, same_versions
from tests.unit.preflight.nodes import expect, node


def test_ray_would_wait_for_ever() -> None:
    workers = Workers(4, {"GPU": 1, "CPU": 2})
    assert room_for(workers, {"GPU": 4.0, "CPU": 8.0}) == []
    (gpus,) = room_for(workers, {"GPU": 2.0, "CPU": 64.0})
    assert (gpus.outcome, gpus.exit_code) == (Outcome.FAILED, 2)
    assert gpus.found == "2 GPU in all"
    assert gpus.wanted == "4 GPU: 4 workers with 1 each"
    assert len(room_for(workers, {})) == 2


def test_a_larger_cluster_may_have_unfit_nodes() -> None:
    findings = [Node(name, expect()).passed("disk", "1 GB free") for name in "abc"]
    findings.append(Node("c", expect()).failed("gpus", "none"))
    assert judged_together(findings, 2)[-1].outcome is Outcome.WARNING
    assert judged_together(findings, 3)[-1].outcome is Outcome.FAILED


def test_versions_that_differ() -> None:
    ours = {"python": "3.11.9", "torch": "2.13.0"}
    assert same_versions(node(), ours, ours) == []
    (finding,) = same_versions(node(), {"python": "3.11.9", "torch": "2.12.0"}, ours)
    assert (finding.outcome, finding.found, finding.wanted) == (Outcome.WARNING, "torch 2.12.0", "torch 2.13.0")


def test_nodes_that_share_a_host_are_told_apart() -> None:
    def ray_node(host: str, address: str, node_id: str = "") -> dict[str, str]:
        return {"NodeManagerHostname": host, "NodeManagerAddress": address, "NodeID": node_id}

    nodes = [ray_node("a.example.org", "10.0.0.1"), ray_node("b", "10.0.0.2"), ray_node("b", "10.0.0.3")]
    assert _names(nodes) == ["a", "b (10.0.0.2)", "b (10.0.0.3)"]
    shared = [ray_node("c", "10.0.0.4", "11112222aa"), ray_node("c", "10.0.0.4", "33334444bb")]
    assert _names(shared) == ["c (11112222)", "c (33334444)"]


TWO_NODES = """
import dataclasses, json, os, sys
import ray
from ray.cluster_utils import Cluster
from ftl_config.errors import FtlError
from ftl_config.load import load_text
from ftl_runner.context import TrainJob
from ftl_runner.preflight.ray_nodes import Workers, check_ray_nodes

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 10**8})
cluster.add_node(num_cpus=1, object_store_memory=10**8)
ray.init(address=cluster.address)
job = TrainJob(load_text("{}", ["--output-dir", sys.argv[1]], partial=True), "run-1", None, resume=False)
for group, num_cpus in (("", 1), ("", 9), ("workers", 9)):
    os.environ["RAY_NODE_TYPE_NAME"] = group
    try:
        check_ray_nodes(job, Workers(2, {"CPU": num_cpus}), lambda event: print(event.to_json(), flush=True))
    except FtlError as error:
        print(json.dumps({"exit_code": error.exit_code, "message": error.message}), flush=True)
ray.shutdown()
cluster.shutdown()
"""


@pytest.mark.slow
@pytest.mark.service
def test_two_nodes_of_a_cluster(tmp_path: Path) -> None:
    """Fit; too small for the workers; too small, made by an autoscaler, where that is a warning."""
    command = [sys.executable, "-c", TWO_NODES, str(tmp_path / "out")]
    env = {**os.environ, "RAY_AUTH_MODE": "disabled", "FTL_EVENTS": "stdout"}
    result = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert result.returncode == 0, result.stderr[-3000:]
    fit, small, error, growing = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("{"))
    assert (fit["num_nodes"], fit["findings"]) == (2, [])
    assert [name.split(" (")[0] for name in fit["passed"]][-2:] == ["store's clock", "clock"]
    assert small["num_nodes"] == 2
    assert [finding["outcome"] for finding in small["findings"]] == ["failed"]
    assert error["exit_code"] == 2
    assert [finding["outcome"] for finding in growing["findings"]] == ["warning"]
    assert list((tmp_path / "out").rglob("*")) == []


def drive(config: dict[str, Any], folder: Path, **env: str) -> tuple[int, list[dict[str, Any]]]:
    """`ftl-runner train` on a Ray of its own: exit code and events."""
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "ftl_runner", "train", str(path)]
    variables = {"FTL_EXECUTOR": "ray", "FTL_EVENTS": "stdout", "FTL_NUM_NODES": "1", "FTL_NUM_WORKERS": "2"}
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=folder, env={**os.environ, **variables, **env}, timeout=600
    )
    assert result.stdout, result.stderr[-3000:]
    lines = [line for line in result.stdout.splitlines() if "::ftl:: " in line]
    return result.returncode, [json.loads(line.split("::ftl:: ", 1)[1]) for line in lines]


@pytest.mark.slow
@pytest.mark.service
def test_two_workers(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    config = {**tiny_config, "deepspeed": None, "max_steps": 1, "ray_num_workers": 2}
    code, events = drive(config, tmp_path)
    assert code == 0, events
    nodes, workers = (event for event in events if event["type"] == "preflight")
    assert nodes["findings"] == workers["findings"] == []
    names = [text.split(" (")[0] for text in nodes["passed"]]
    assert names == ["gpus", "driver", "disk", "shared memory", "store", "store's clock", "clock"]
    assert workers["passed"][0].startswith("all-reduce (")
    kinds = [event["type"] for event in events]
    assert kinds.index("preflight") < kinds.index("train_start")


@pytest.mark.slow
@pytest.mark.service
def test_all_that_is_wrong_is_told_before_a_worker_starts(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """No such GPUs, a store that is a file, more workers than CPUs: one event, one error."""
    (tmp_path / "store").write_text("a file")
    config = {**tiny_config, "checkpoint": None, "ray_num_workers": 2, "resources_per_worker": {"CPU": 999}}
    code, events = drive(config, tmp_path, FTL_ACCELERATORS="H100:64", FTL_CHECKPOINT_URI=str(tmp_path / "store/run"))
    assert code == 1
    assert [event["type"] for event in events] == ["phase", "preflight", "error", "end"]
    found = {finding["check"]: finding for finding in events[1]["findings"]}
    assert set(found) == {"gpus", "store", "workers"}
    assert {finding["outcome"] for finding in found.values()} == {"failed"}
    assert found["workers"]["node"] == "cluster"


@pytest.mark.slow
@pytest.mark.service
def test_skipped_by_a_key(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    config = {**tiny_config, "deepspeed": None, "max_steps": 1, "launch": {"preflight": False}}
    code, events = drive(config, tmp_path, FTL_ACCELERATORS="H100:64", FTL_EXECUTOR="single")
    assert code == 0, events
    assert "preflight" not in {event["type"] for event in events}
