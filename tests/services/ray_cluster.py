"""A Ray cluster that somebody else keeps: `ray start` on loopback, on ports of its own, with token authentication."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ftl_launcher.backends.local_head import PORT_NAMES, becomes_ready, free_ports
from ftl_launcher.backends.ray_http import Endpoint

STANDIN = Path(__file__).resolve().parent / "standin"
TOKEN = "0123456789abcdef" * 4
_TRIES = 3


@contextmanager
def running_cluster() -> Iterator[str]:
    """The address of a cluster whose Python has the stand-in runner."""
    with tempfile.TemporaryDirectory(prefix="rt-", dir="/tmp") as name:
        folder = Path(name)
        (folder / "token").write_text(TOKEN)
        process, address = _start(folder)
        try:
            yield address
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
                process.wait(30)
                os.killpg(process.pid, signal.SIGKILL)


def _start(folder: Path) -> tuple[subprocess.Popen[bytes], str]:
    """`ray start`, again where Ray gave up on a busy machine: it waits 30 s for its raylet, whatever is set."""
    for number in range(_TRIES):
        ports = dict(zip(PORT_NAMES, free_ports(len(PORT_NAMES)), strict=True))
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", "--num-cpus=2", "--object-store-memory=100000000"]
        command += [f"--temp-dir={folder}/ray{number}", *(f"--{name}={port}" for name, port in ports.items())]
        env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(STANDIN),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
        log = folder / f"start-{number}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(command, env=env, stdout=file, stderr=file, process_group=0)
        address = f"http://127.0.0.1:{ports['dashboard-port']}"
        if becomes_ready(process, Endpoint(address, TOKEN), log, 0):
            return process, address
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    raise TimeoutError(log.read_text()[-2000:])
