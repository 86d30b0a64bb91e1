"""Run `ftl` as a user does: a process of its own, judged by what it prints, writes and returns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

FTL = [sys.executable, "-m", "ftl_launcher"]


@dataclass(frozen=True)
class Ftl:
    """The command line with a home and an environment of the test's own."""

    home: Path
    cwd: Path
    environment: Mapping[str, str]

    def env(self) -> dict[str, str]:
        return {**os.environ, "FTL_HOME": str(self.home), "NO_COLOR": "1", **self.environment}

    def run(
        self, *args: str, check: bool = True, stdin: str | None = None, timeout_s: float = 400
    ) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [*FTL, *args], cwd=self.cwd, env=self.env(), input=stdin, capture_output=True, text=True, timeout=timeout_s
        )
        if check and result.returncode != 0:
            raise AssertionError(
                f"ftl {' '.join(args)} -> {result.returncode}\n{result.stdout[-4000:]}\n{result.stderr}"
            )
        return result

    def start(self, *args: str) -> subprocess.Popen[str]:
        """A process in a group of its own, so that a test can press Ctrl-C in it."""
        return subprocess.Popen(
            [*FTL, *args],
            cwd=self.cwd,
            env=self.env(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def status(self, name: str) -> dict[str, Any]:
        payload = json.loads(self.run("status", name, "--json").stdout)
        row: dict[str, Any] = payload[0] if isinstance(payload, list) else payload
        return row


def write_config(path: Path, settings: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(settings), sort_keys=False))
    return path


def read_events(output_dir: Path, event_type: str) -> list[dict[str, Any]]:
    lines = (output_dir / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["type"] == event_type]


def read_metrics(output_dir: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((output_dir / "metrics.json").read_text())
    return metrics


def losses(output_dir: Path) -> dict[int, float]:
    """Loss by step over all attempts, as the finished run reports it."""
    return {row["step"]: row["loss"] for row in read_metrics(output_dir)["history"] if "loss" in row}


def wait_for(condition: Callable[[], bool], what: str, timeout_s: float = 240, interval_s: float = 0.2) -> None:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(interval_s)
    raise AssertionError(f"{what} did not happen within {timeout_s:.0f} s")


def reached_step(output_dir: Path, step: int) -> bool:
    if not (output_dir / "events.jsonl").exists():
        return False
    return any(event["step"] >= step for event in read_events(output_dir, "step"))
