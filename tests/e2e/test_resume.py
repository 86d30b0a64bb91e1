"""A run that is stopped goes on exactly: right step, same data, same random numbers, same losses."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.ftl_cli import Ftl, losses, reached_step, read_events, wait_for, write_config

pytestmark = pytest.mark.slow

STEPS = 60


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, dict[int, float]]:
    """Losses of the run that nobody disturbed; filled by the first test that needs them."""
    return {}


@pytest.fixture
def config(tiny_config: dict[str, Any], tmp_path: Path, s3_server: Any) -> dict[str, Any]:
    uri = f"s3://{s3_server.bucket}/{tmp_path.name}"
    return {**tiny_config, "max_steps": STEPS, "save_steps": 20, "checkpoint": uri}


@pytest.fixture
def reference(
    ftl: Ftl, config: dict[str, Any], tmp_path: Path, uninterrupted: dict[str, dict[int, float]]
) -> dict[int, float]:
    if not uninterrupted:
        out = tmp_path / "reference"
        path = write_config(tmp_path / "reference.yml", {**config, "output_dir": str(out)})
        ftl.run("launch", str(path), "--name", "reference")
        uninterrupted["losses"] = losses(out)
    return uninterrupted["losses"]


def assert_continues_exactly(output_dir: Path, reference: dict[int, float], stopped_at: int) -> None:
    resumed = read_events(output_dir, "resumed")[-1]
    assert resumed["step"] == stopped_at
    steps = [event["step"] for event in read_events(output_dir, "step")]
    assert steps[-1] == STEPS
    assert stopped_at + 1 in steps
    after = losses(output_dir)
    assert sorted(after) == sorted(reference)
    for step, loss in reference.items():
        assert after[step] == pytest.approx(loss, abs=1e-5), f"step {step}"


def test_cancelled_run_resumes_exactly(
    ftl: Ftl, config: dict[str, Any], reference: dict[int, float], tmp_path: Path
) -> None:
    path, out = write_config(tmp_path / "config.yml", config), Path(config["output_dir"])
    ftl.run("launch", str(path), "--name", "cancelled", "--detach")
    wait_for(lambda: reached_step(out, 5), "step 5")
    ftl.run("cancel", "cancelled")
    assert ftl.status("cancelled")["state"] == "cancelled"
    stopped_at = read_events(out, "checkpoint")[-1]["step"]
    assert 5 <= stopped_at < STEPS

    ftl.run("resume", "cancelled")
    assert ftl.status("cancelled")["state"] == "succeeded"
    assert_continues_exactly(out, reference, stopped_at)


def test_ctrl_c_saves_and_resumes_on_another_disk(
    ftl: Ftl, config: dict[str, Any], reference: dict[int, float], tmp_path: Path
) -> None:
    """As a recovered spot job does: checkpoint and prepared data come from the bucket."""
    path, out = write_config(tmp_path / "config.yml", config), Path(config["output_dir"])
    process = ftl.start("launch", str(path), "--name", "pressed")
    wait_for(lambda: reached_step(out, 3), "step 3")
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 130, text
    assert "Traceback" not in text
    assert "ftl resume pressed" in text
    assert ftl.status("pressed")["state"] == "cancelled"
    stopped_at = read_events(out, "checkpoint")[-1]["step"]
    shutil.rmtree(out)
    shutil.rmtree(config["dataset_prepared_path"])
    ftl.run("resume", "pressed")
    assert_continues_exactly(out, reference, stopped_at)
    told = [event.get("message", "") for event in read_events(out, "phase") if event.get("phase") == "data"]
    assert any("prepared data found" in text for text in told), told
    assert not any("tokenized" in text for text in told), told


def test_killed_worker_is_replaced_and_goes_on(
    ftl: Ftl, config: dict[str, Any], reference: dict[int, float], tmp_path: Path
) -> None:
    """SIGKILL to one training worker: the group restarts from the newest commit, in the same run."""
    path, out = write_config(tmp_path / "config.yml", config), Path(config["output_dir"])
    process = ftl.start("launch", str(path), "--name", "killed")
    wait_for(lambda: reached_step(out, 24), "step 24")
    # Ray renames its workers; those of another run on this machine are not ours to kill.
    workers = [
        p
        for p in psutil.process_iter(["cmdline"])
        if any("RayTrainWorker" in part for part in p.info["cmdline"] or ()) and _belongs_to(p, ftl.home)
    ]
    assert len(workers) == 2
    workers[1].kill()
    text, _ = process.communicate(timeout=300)
    assert process.returncode == 0, text
    resumed_at = read_events(out, "resumed")[-1]["step"]
    assert resumed_at in (20, 40)  # 40 where this test was slow to find the worker
    assert_continues_exactly(out, reference, resumed_at)
    assert read_events(out, "resumed")[-1]["attempt"] == 2


def _belongs_to(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get("FTL_HOME") == str(home)
    except psutil.Error:
        return False
