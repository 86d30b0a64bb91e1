"""A limit of hours: the run saves and stops by itself, and goes on with a higher one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, losses, read_events, write_config

pytestmark = pytest.mark.slow


def test_run_stops_at_its_limit_and_goes_on_with_another(ftl: Ftl, tiny_config: dict[str, Any], tmp_path: Path) -> None:
    settings = {**tiny_config, "max_steps": 6, "save_steps": 100}
    path, out = write_config(tmp_path / "config.yml", settings), Path(tiny_config["output_dir"])
    stopped = ftl.run("launch", str(path), "--name", "short", "--max-hours", "0.00001", check=False)
    assert stopped.returncode == 21, stopped.stdout + stopped.stderr
    assert "limit of 1e-05 hours is reached" in stopped.stdout
    assert ftl.status("short")["state"] == "stopped"
    assert read_events(out, "checkpoint")[-1]["step"] == 1

    again = ftl.run("resume", "short", check=False)
    assert again.returncode == 2
    assert "--max-hours" in again.stderr

    ftl.run("resume", "short", "--max-hours", "2")
    assert ftl.status("short")["state"] == "succeeded"
    assert sorted(losses(out)) == [1, 2, 3, 4, 5, 6]
