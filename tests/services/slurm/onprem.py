"""A Slurm cluster of two nodes on this machine and a SkyPilot API server of its own that knows it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ftl_launcher.backends.local_head import free_ports

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BIN = Path(sys.executable).parent

SKY_CONFIG = "jobs:\n  controller:\n    consolidation_mode: true\n"
"""The controller of managed jobs runs inside the API server: no machine is rented for it."""


def cannot_run() -> str | None:
    """Why no Slurm cluster can be had here; None where it can."""
    if os.geteuid() != 0:
        return "a Slurm cluster needs root"
    if not shutil.which("slurmctld") and not shutil.which("apt-get"):
        return "slurm-wlm is not installed and there is no apt-get"
    return None


@dataclass(frozen=True)
class OnPrem:
    """The running cluster; ``environment`` is what a SkyPilot client needs to use it."""

    home: Path
    environment: Mapping[str, str]

    def script(self, *args: str) -> None:
        done = subprocess.run(
            ["bash", str(HERE / "cluster.sh"), *args],
            env={**os.environ, **self.environment, "SLURM_VISIBLE": f"{Path(sys.base_prefix).parent}:{ROOT}"},
            capture_output=True,
            text=True,
            timeout=300,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def sky(self, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(BIN / "sky"), *args],
            env={**os.environ, **self.environment, **env},
            capture_output=True,
            text=True,
            timeout=300,
        )


@contextmanager
def running_cluster(home: Path) -> Iterator[OnPrem]:
    """Started for the block, and taken away after it with everything that it left on this machine's disk."""
    (port,) = free_ports(1)
    environment = {
        "HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "SKY_CLIENT_HOME": str(home),
        "SKYPILOT_API_SERVER_LOCAL_PORT": str(port),
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
    }
    (home / ".sky").mkdir(parents=True)
    (home / ".sky/config.yaml").write_text(SKY_CONFIG)
    cluster = OnPrem(home, environment)
    try:
        cluster.script("up")
        started = cluster.sky(
            "api",
            "start",
            PYTHONPATH=str(HERE / "offline"),
            SKY_TEST_PROBE_URL=f"http://127.0.0.1:{port}/api/health",
        )
        assert started.returncode == 0, started.stdout + started.stderr
        yield cluster
    finally:
        cluster.sky("api", "stop")
        cluster.script("down")
