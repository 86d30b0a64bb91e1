"""The watchdog of one local run: starts its Ray, waits for its job to end, keeps the log, takes Ray down.

Run as ``python -m ftl_launcher.backends.local_head RUN_DIR``, detached from the terminal, so that closing the laptop's
window ends nothing. It stops only what it started itself, never another Ray on the machine.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from ftl_config.errors import FtlError
from ftl_launcher.backends import ray_http
from ftl_launcher.backends.local import TEMP_PREFIX
from ftl_launcher.backends.protocol import BackendState
from ftl_launcher.backends.ray_http import Endpoint
from ftl_launcher.host import detected_gpus
from ftl_launcher.paths import RunDir
from ftl_launcher.plan import RunPlan
from ftl_launcher.processes import descendants, process_tag
from ftl_launcher.states import RunState

_START_TRIES = 3
_READY_TIMEOUT_S = 90.0
_SUBMIT_TIMEOUT_S = 90.0
"""A launcher that was killed never submits: then this process ends instead of waiting for ever."""
_POLL_S = 0.5
_READY_POLL_S = 0.1
_STARTED = b"Ray runtime started"
"""What `ray start --block` says once its node has joined."""
_STOP_TIMEOUT_S = 10.0
_MAX_TEMP_PATH = 40
"""Ray puts sockets about 60 characters below its folder, and a socket's path may have 107."""
_OBJECT_STORE_MB = 200
"""Batches do not travel through Ray's object store; FTL_RAY_OBJECT_STORE_MB changes it."""
PORT_NAMES = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "runtime-env-agent-port",
    "ray-client-server-port",
    "metrics-export-port",
    "node-manager-port",
    "object-manager-port",
)

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


class _Stopped(Exception):
    """SIGTERM: somebody wants the whole thing gone."""


def main(run_path: str) -> int:
    """Keep one run until it is over. Returns the exit code of the watchdog itself."""
    run_dir = RunDir(Path(run_path))
    plan = RunPlan.from_json(run_dir.plan.read_text())
    signal.signal(signal.SIGTERM, _raise_stopped)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _write_json(run_dir.head, _head(plan, "starting"))
    with _temp_dir() as temp_dir:
        try:
            ray, endpoint = _start_ray(run_dir, plan, temp_dir)
            token = str(run_dir.token(plan.launch_number))
            where = {"ray_pid": ray.pid, "address": endpoint.address, "token_path": token, "temp_dir": str(temp_dir)}
            _write_json(run_dir.head, {**_head(plan, "ready"), **where})
            _link_log(run_dir, plan, temp_dir)
            result = _wait_for_job(endpoint, plan.submission_id, ray)
        except FtlError as error:
            _write_json(run_dir.head, {**_head(plan, "failed"), "error": error.message})
            result = BackendState(RunState.FAILED, message=error.message)
        except _Stopped:
            result = BackendState(RunState.CANCELLED, message="stopped before the job had ended")
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _archive_log(run_dir, plan, temp_dir)
        _write_result(run_dir, plan, result)
        _stop_descendants()
    run_dir.token(plan.launch_number).unlink(missing_ok=True)
    return 0 if result.state is not RunState.FAILED else 1


def _start_ray(run_dir: RunDir, plan: RunPlan, temp_dir: Path) -> tuple[subprocess.Popen[bytes], Endpoint]:
    """Start a head on free ports; another process may take one in between, or Ray give up: try again with others."""
    token = run_dir.token(plan.launch_number)
    for attempt in range(1, _START_TRIES + 1):
        ports = free_ports(len(PORT_NAMES))
        numbered = dict(zip(PORT_NAMES, ports, strict=True))
        endpoint = Endpoint(f"http://127.0.0.1:{numbered['dashboard-port']}", token.read_text())
        written = run_dir.head_log.stat().st_size
        ray = subprocess.Popen(
            _ray_command(plan, numbered, temp_dir), stdin=subprocess.DEVNULL, preexec_fn=_die_with_watchdog
        )
        if becomes_ready(ray, endpoint, run_dir.head_log, written):
            return ray, endpoint
        sys.stdout.write(f"ftl: Ray did not come up on ports {ports} (try {attempt} of {_START_TRIES})\n")
        sys.stdout.flush()
        _stop_descendants()
    raise FtlError("`ray start` failed; see head.log in the run's folder")


def _ray_command(plan: RunPlan, ports: dict[str, int], temp_dir: Path) -> list[str]:
    memory_mb = int(os.environ.get("FTL_RAY_OBJECT_STORE_MB") or _OBJECT_STORE_MB)
    return [
        sys.executable,
        "-P",
        "-m",
        "ray.scripts.scripts",
        "start",
        "--head",
        "--block",
        "--node-ip-address=127.0.0.1",
        "--dashboard-host=127.0.0.1",
        "--include-dashboard=true",
        "--disable-usage-stats",
        # Ray counts CPUs to place workers, not to confine them: as many as there are workers, if that is more.
        f"--num-cpus={max(os.cpu_count() or 1, plan.num_workers + 1)}",
        f"--num-gpus={detected_gpus()}",
        f"--object-store-memory={memory_mb * 1024 * 1024}",
        f"--temp-dir={temp_dir}",
        *(f"--{name}={port}" for name, port in ports.items()),
    ]


def free_ports(count: int) -> list[int]:
    """Ports that nothing listened on a moment ago, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def becomes_ready(ray: subprocess.Popen[bytes], endpoint: Endpoint, log: Path, written: int) -> bool:
    """The dashboard answers before the node has joined, and where that takes 30 s (a busy machine) Ray gives up."""
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline and ray.poll() is None:
        if _STARTED in log.read_bytes()[written:]:
            with contextlib.suppress(FtlError):
                ray_http.check_reachable(endpoint)
                return True
        time.sleep(_READY_POLL_S)
    return False


def _wait_for_job(endpoint: Endpoint, submission_id: str, ray: subprocess.Popen[bytes]) -> BackendState:
    """Poll until the job has ended.

    Raises:
        FtlError: no job came, or Ray itself ended first.
    """
    submit_deadline = time.monotonic() + _SUBMIT_TIMEOUT_S
    while ray.poll() is None:
        time.sleep(_POLL_S)
        try:
            state = ray_http.job_state(endpoint, submission_id)
        except FtlError:
            continue
        if state.state is not RunState.LOST:
            submit_deadline = float("inf")
            if state.state.is_terminal:
                return state
        elif time.monotonic() > submit_deadline:
            raise FtlError("the launcher ended before it had submitted the job: nothing was run")
    raise FtlError(f"the embedded Ray ended unexpectedly (exit code {ray.returncode})")


def _link_log(run_dir: RunDir, plan: RunPlan, temp_dir: Path) -> None:
    """driver.log is a link into Ray's session for as long as that lives."""
    run_dir.driver_log.unlink(missing_ok=True)
    run_dir.driver_log.symlink_to(_ray_log(plan, temp_dir))


def _archive_log(run_dir: RunDir, plan: RunPlan, temp_dir: Path) -> None:
    source = _ray_log(plan, temp_dir)
    if not source.exists():
        run_dir.driver_log.unlink(missing_ok=True)
        return
    copy = run_dir.path / "driver.log.part"
    shutil.copyfile(source, copy)
    copy.replace(run_dir.driver_log)


def _ray_log(plan: RunPlan, temp_dir: Path) -> Path:
    return temp_dir / "session_latest" / "logs" / f"job-driver-{plan.submission_id}.log"


def _head(plan: RunPlan, status: str) -> dict[str, Any]:
    return {"status": status, "watchdog": process_tag(), "submission_id": plan.submission_id}


def _write_result(run_dir: RunDir, plan: RunPlan, result: BackendState) -> None:
    values = {
        "submission_id": plan.submission_id,
        "state": str(result.state),
        "exit_code": result.exit_code,
        "message": result.message,
        "started_at": result.started_at,
        "ended_at": result.ended_at or time.time(),
    }
    _write_json(run_dir.result, values)


def _stop_descendants() -> None:
    """Everything that was started from here, orphans included (they come back to a subreaper): ask, then kill."""
    for sig in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        for pid in _living_children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sig)
        while time.monotonic() < deadline and _living_children():
            time.sleep(0.1)


def _living_children() -> list[int]:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    return descendants(os.getpid())


@contextlib.contextmanager
def _temp_dir() -> Iterator[Path]:
    """A short folder for Ray's session, ours alone, gone afterwards."""
    parent = tempfile.gettempdir()
    if len(parent) > _MAX_TEMP_PATH - len("/ftl-12345678"):
        parent = "/tmp"  # noqa: S108 - mkdtemp makes a folder of mode 0700 in it
    path = Path(tempfile.mkdtemp(prefix=TEMP_PREFIX, dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    """Whole or not at all: readers poll this file."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(values, indent=2) + "\n")
    part.replace(path)


def _die_with_watchdog() -> None:
    """In the child: if the watchdog is killed outright, Ray gets SIGTERM and goes down with its workers."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _prctl(option: int, value: int) -> None:
    """Linux only; elsewhere a killed watchdog leaves its Ray behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


def _raise_stopped(signum: int, frame: FrameType | None) -> None:
    raise _Stopped


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
