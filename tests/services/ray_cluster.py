"""A Ray cluster that somebody else keeps: `ray start` on loopback, on ports of its own, with token authentication."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ftl_config.errors import FtlError
from ftl_launcher.backends import ray_http
from ftl_launcher.backends.local_head import free_ports
from ftl_launcher.backends.ray_http import Endpoint

STANDIN = Path(__file__).resolve().parent / "standin"
TOKEN = "0123456789abcdef" * 4
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "ray-client-server-port",
    "metrics-export-port",
)


@contextmanager
def running_cluster() -> Iterator[str]:
    """The address of a cluster whose Python has the stand-in runner."""
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as folder:
        token = Path(folder) / "token"
        token.write_text(TOKEN)
        ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", "--num-cpus=2", "--object-store-memory=100000000"]
        command += [f"--temp-dir={folder}/ray", *(f"--{name}={port}" for name, port in ports.items())]
        env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(STANDIN),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, process_group=0
        )
        address = f"http://127.0.0.1:{ports['dashboard-port']}"
        try:
            _wait_until_up(address)
            yield address
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
                process.wait(30)
                os.killpg(process.pid, signal.SIGKILL)


def _wait_until_up(address: str) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with suppress(FtlError):
            ray_http.check_reachable(Endpoint(address, TOKEN))
            return
    raise TimeoutError(address)
