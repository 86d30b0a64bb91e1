"""This machine: an embedded Ray of its own for each run, kept by a detached watchdog (local_head.py)."""

from __future__ import annotations

import json
import os
import secrets as random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ftl_config.errors import FtlError
from ftl_launcher.backends import ray_http
from ftl_launcher.backends.protocol import BackendState, Offer, Request
from ftl_launcher.backends.ray_http import Endpoint
from ftl_launcher.backends.refusals import unsuitable
from ftl_launcher.backends.tail import tail_file
from ftl_launcher.host import detected_gpus
from ftl_launcher.paths import RunDir
from ftl_launcher.plan import RunPlan
from ftl_launcher.processes import is_alive
from ftl_launcher.render import STOP_GRACE_S, render_ray_job
from ftl_launcher.states import RunState

_READY_TIMEOUT_S = 240.0
_POLL_S = 0.1
_LAST_LAUNCH_TIMEOUT_S = 60.0
TEMP_PREFIX = "ftl-"
"""Of the folder that a run's Ray keeps its session in."""

_UNSUITABLE = {
    "spot": "launch.spot: this machine is not rented; leave the key out or choose a --cloud",
    "image": "launch.image: the local backend runs in the environment that ftl is installed in; leave the key out",
    "extra_packages": "launch.image.extra_packages: install them in the environment that ftl is installed in",
    "nodes": "launch.nodes: this machine is one node; use --launch.workers-per-node, or choose a --cloud",
}


class LocalBackend:
    """Walks the same road as a cluster: only the Ray is made for the run and goes with it."""

    name = "local"
    state_needs_import = False

    def refusals(self, plan: RunPlan) -> list[str]:
        asked = {
            "spot": plan.resources.spot,
            "image": plan.image is not None,
            "extra_packages": bool(plan.extra_packages),
            "nodes": plan.num_nodes > 1,
        }
        found = unsuitable(asked, _UNSUITABLE)
        if plan.resources.accelerators and detected_gpus() < plan.workers_per_node:
            wanted = plan.resources.accelerators[0]
            found.append(f"launch.accelerators: {wanted} asked for, {detected_gpus()} found here; choose a --cloud")
        return found

    def request(self, plan: RunPlan) -> Request:
        python = os.environ.get("FTL_RUNNER_PYTHON") or sys.executable
        text = render_ray_job(plan, python=python, config_path=str(RunDir.of(plan.name).config))
        return Request(
            backend=self.name,
            name=plan.name,
            handle=f"local://{plan.name}/{plan.submission_id}",
            filename="job.json",
            text=text,
            payload=json.loads(text),
            plan=plan,
        )

    def offer(self, request: Request, secrets: Mapping[str, str]) -> Offer | None:
        return None

    def submit(self, request: Request, secrets: Mapping[str, str]) -> None:
        run_dir = RunDir.of(request.name).create()
        if _is_known(run_dir, request.plan.submission_id):
            return
        _wait_for_last_launch(run_dir)
        _clear_last_launch(run_dir, request.plan.launch_number)
        watchdog = _start_watchdog(run_dir, request.plan, secrets)
        try:
            endpoint = _wait_until_ready(run_dir, watchdog)
            _submit_job(endpoint, request.payload)
        except BaseException:
            watchdog.send_signal(signal.SIGTERM)
            raise

    def state(self, handle: str) -> BackendState:
        name, submission_id = _parse_handle(handle)
        run_dir = RunDir.of(name)
        if found := _result(run_dir, submission_id):
            return found
        head = _read_json(run_dir.head)
        if not is_alive(head.get("watchdog")):
            # It may have written its result between the two looks.
            lost = BackendState(RunState.LOST, message="the process that kept this run is gone (killed, or a reboot)")
            return _result(run_dir, submission_id) or lost
        if head.get("status") != "ready":
            return BackendState(RunState.STARTING)
        try:
            state = ray_http.job_state(_endpoint(head), submission_id)
        except FtlError:  # Ray is going down right now: the watchdog leaves the result
            return _result(run_dir, submission_id) or BackendState(RunState.RUNNING)
        return BackendState(RunState.STARTING) if state.state is RunState.LOST else state

    def logs(self, handle: str, *, follow: bool) -> Iterator[str | None]:
        name, _ = _parse_handle(handle)
        return tail_file(
            RunDir.of(name).driver_log, follow=follow, is_over=lambda: self.state(handle).state.is_terminal
        )

    def cancel(self, handle: str) -> None:
        name, submission_id = _parse_handle(handle)
        run_dir = RunDir.of(name)
        state = self.state(handle).state
        if state.is_terminal:
            return
        head = _read_json(run_dir.head)
        if head.get("status") == "ready":
            ray_http.stop_job(_endpoint(head), submission_id)
        else:
            os.kill(int(head["watchdog"].split(":")[0]), signal.SIGTERM)

    def down(self, handle: str) -> None:
        head = _read_json(RunDir.of(_parse_handle(handle)[0]).head)
        if is_alive(head.get("watchdog")):
            os.kill(int(head["watchdog"].split(":")[0]), signal.SIGTERM)

    def shell(self, handle: str, rank: int) -> list[str]:
        if rank:
            raise FtlError("this machine is the run's only node: rank 0", exit_code=2)
        return ["bash"]

    def dashboard(self, handle: str) -> str | None:
        head = _read_json(RunDir.of(_parse_handle(handle)[0]).head)
        return f"{head['address']}/#/jobs" if head.get("status") == "ready" and is_alive(head.get("watchdog")) else None


def _wait_for_last_launch(run_dir: RunDir) -> None:
    """The watchdog of the launch before may still be writing its log and result here, for a second or two."""
    head = _read_json(run_dir.head)
    deadline = time.monotonic() + _LAST_LAUNCH_TIMEOUT_S
    while not run_dir.result.exists() and is_alive(head.get("watchdog")):
        if time.monotonic() > deadline:
            raise FtlError(
                f"the launch before this one is still being taken down (process {head['watchdog'].split(':')[0]})",
                hint="try again in a minute",
            )
        time.sleep(_POLL_S)


def _clear_last_launch(run_dir: RunDir, launch_number: int) -> None:
    """Keep the log of the launch before under its number; forget where its Ray was.

    A watchdog that was killed outright could not remove Ray's folder, so that is done here.
    """
    head = _read_json(run_dir.head)
    left = Path(head.get("temp_dir", "/"))
    if left.name.startswith(TEMP_PREFIX) and not is_alive(head.get("watchdog")):
        shutil.rmtree(left, ignore_errors=True)
    if run_dir.driver_log.exists():
        run_dir.driver_log.replace(run_dir.log_of(launch_number - 1))
    for path in (run_dir.driver_log, run_dir.head, run_dir.result):
        path.unlink(missing_ok=True)


def _start_watchdog(run_dir: RunDir, plan: RunPlan, secrets: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """The watchdog inherits our environment: this is how secrets reach the workers without being written."""
    token = run_dir.token(plan.launch_number)
    descriptor = os.open(token, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600)
    with open(descriptor, "w") as file:
        file.write(random.token_hex(32))
    dropped = {"RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN"}
    env = {key: value for key, value in os.environ.items() if key not in dropped}
    env |= secrets
    env |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_GRACE_S),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Everything on loopback: nothing of the run listens on the network, and a changing network does not end it.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # Ray folds lines that look alike; an event that is folded away would be lost.
        "RAY_DEDUP_LOGS_ALLOW_REGEX": "::ftl::",
    }
    with open(run_dir.head_log, "ab") as log:
        return subprocess.Popen(
            # -P: a `types.py` or `ray/` in the user's folder is no module of ours.
            [sys.executable, "-P", "-m", "ftl_launcher.backends.local_head", str(run_dir.path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=env,
            cwd=plan.workdir,
            start_new_session=True,
        )


def _wait_until_ready(run_dir: RunDir, watchdog: subprocess.Popen[bytes]) -> Endpoint:
    """Wait for the watchdog's word that its Ray answers; import Ray's client meanwhile, which takes a second."""
    _import_ray_client()
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while time.monotonic() < deadline:
        head = _read_json(run_dir.head)
        if head.get("status") == "ready":
            return _endpoint(head)
        if watchdog.poll() is not None:
            raise FtlError(
                f"the embedded Ray did not start: {head.get('error') or 'its watchdog ended'}",
                hint=f"its own words are in {run_dir.head_log}",
            )
        time.sleep(_POLL_S)
    raise FtlError(f"the embedded Ray did not answer within {_READY_TIMEOUT_S:.0f} s", hint=f"see {run_dir.head_log}")


def _import_ray_client() -> None:
    try:
        import ray.job_submission  # noqa: F401
    except ImportError as error:
        raise FtlError(
            f"the local backend needs Ray, which cannot be imported here ({error})",
            hint="pip install 'ftl-tune[runner]'",
        ) from error


def _submit_job(endpoint: Endpoint, payload: Mapping[str, Any]) -> None:
    from ftl_launcher.backends.ray import submit_job

    submit_job(endpoint, payload)


def _is_known(run_dir: RunDir, submission_id: str) -> bool:
    """Whether this very launch was submitted before."""
    head = _read_json(run_dir.head)
    is_running = head.get("submission_id") == submission_id and is_alive(head.get("watchdog"))
    return is_running or _result(run_dir, submission_id) is not None


def _result(run_dir: RunDir, submission_id: str) -> BackendState | None:
    """What the watchdog wrote when the run was over, if it was this launch."""
    result = _read_json(run_dir.result)
    if result.get("submission_id") != submission_id:
        return None
    return BackendState(
        state=RunState(result["state"]),
        exit_code=result.get("exit_code"),
        message=result.get("message"),
        started_at=result.get("started_at"),
        ended_at=result.get("ended_at"),
    )


def _endpoint(head: Mapping[str, Any]) -> Endpoint:
    return Endpoint(head["address"], _read_token(Path(head["token_path"])))


def _read_token(path: Path) -> str | None:
    try:
        return path.read_text()
    except OSError:  # its Ray is gone, and the token with it
        return None


def _parse_handle(handle: str) -> tuple[str, str]:
    name, _, submission_id = handle.removeprefix("local://").partition("/")
    return name, submission_id


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values


BACKEND = LocalBackend()
