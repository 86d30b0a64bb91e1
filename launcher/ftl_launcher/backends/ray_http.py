"""The few calls of Ray's Jobs REST API that need no Ray: version, one job, stop. Standard library only.

Importing Ray's own client costs over half a second, which `ftl status` cannot afford.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib import error, request
from urllib.parse import quote, urlsplit

from ftl_config.errors import FtlError
from ftl_config.protocol import EVENT_PREFIX
from ftl_launcher.backends.protocol import BackendState
from ftl_launcher.states import RunState

_TIMEOUT_S = 5.0
_RETRY_DELAYS_S = (0.25, 0.75, 1.5)

_STATES = {
    "PENDING": RunState.PENDING,
    "RUNNING": RunState.RUNNING,
    "STOPPED": RunState.CANCELLED,
    "SUCCEEDED": RunState.SUCCEEDED,
    "FAILED": RunState.FAILED,
}


class RayUnreachable(FtlError):
    """Nothing that speaks the Ray Jobs API answers at an address."""


@dataclass(frozen=True)
class Endpoint:
    """Where a Ray cluster's Jobs API listens. ``token`` is sent as a bearer token and never printed."""

    address: str
    token: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}

    def __repr__(self) -> str:
        return f"Endpoint({self.address!r})"


def parse_address(address: str) -> str:
    """``http://host:port`` of a cluster, with scheme and Ray's default port 8265 put in where they are missing.

    Raises:
        FtlError: it is another kind of address, such as ray://.
    """
    text = address if "://" in address else f"http://{address}"
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise FtlError(
            f"{address!r} is not the address of a Ray dashboard",
            hint="give the Jobs API address, for example --ray-address http://head:8265",
            exit_code=2,
        )
    if parts.port is None and parts.scheme == "http":
        return f"http://{parts.netloc}:8265"
    return f"{parts.scheme}://{parts.netloc}"


def environment_token() -> str | None:
    """The token that Ray itself would use: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, ~/.ray/auth_token."""
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token.strip()
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    try:
        return path.read_text().strip() or None
    except OSError:
        return None


def check_reachable(endpoint: Endpoint) -> str:
    """Ray's version at the other end.

    Raises:
        FtlError: unreachable after a few tries, no Ray there, or the token is refused.
    """
    for delay_s in (*_RETRY_DELAYS_S, None):
        try:
            return str(_call(endpoint, "GET", "/api/version")["ray_version"])
        except RayUnreachable:
            if delay_s is None:
                raise
            time.sleep(delay_s)
        except KeyError:
            break
    raise FtlError(f"{endpoint.address} answers, but not as a Ray dashboard does", hint="check --ray-address")


def job_state(endpoint: Endpoint, submission_id: str) -> BackendState:
    """State of one job; LOST where the cluster does not know it.

    Raises:
        FtlError: the cluster cannot be asked.
    """
    try:
        job = _call(endpoint, "GET", f"/api/jobs/{quote(submission_id)}")
    except _NotFound:
        return BackendState(RunState.LOST, message=f"Ray at {endpoint.address} knows no job {submission_id}")
    return BackendState(
        state=_STATES[job["status"]],
        exit_code=job.get("driver_exit_code"),
        message=short_message(job.get("message")),
        started_at=_seconds(job.get("start_time")),
        ended_at=_seconds(job.get("end_time")),
    )


def stop_job(endpoint: Endpoint, submission_id: str) -> None:
    """Ask the cluster to stop a job: SIGTERM now, SIGKILL after RAY_JOB_STOP_WAIT_TIME_S. Ended jobs are no error."""
    try:
        _call(endpoint, "POST", f"/api/jobs/{quote(submission_id)}/stop")
    except _NotFound as missing:
        raise FtlError(f"Ray at {endpoint.address} knows no job {submission_id}") from missing


class _NotFound(Exception):
    pass


def _call(endpoint: Endpoint, method: str, path: str) -> dict[str, Any]:
    # parse_address lets http and https through and nothing else.
    query = request.Request(endpoint.address + path, method=method, headers=endpoint.headers)  # noqa: S310
    try:
        with _opener(endpoint.address).open(query, timeout=_TIMEOUT_S) as response:
            answer = json.load(response)
    except error.HTTPError as failure:
        raise _http_error(endpoint, failure) from failure
    except (OSError, ValueError) as failure:
        reason = getattr(failure, "reason", failure)
        raise RayUnreachable(
            f"no Ray cluster answers at {endpoint.address}: {reason}",
            hint="is the head up, and its dashboard port (8265) reachable from here?",
        ) from failure
    if not isinstance(answer, dict):
        raise FtlError(f"{endpoint.address}{path} answered with something that is not Ray's")
    return answer


def _http_error(endpoint: Endpoint, failure: error.HTTPError) -> Exception:
    if failure.code == 404:
        return _NotFound()
    if failure.code in (401, 403):
        return FtlError(
            f"Ray at {endpoint.address} refuses the token ({failure.code})",
            hint="set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's token",
        )
    return FtlError(f"Ray at {endpoint.address} answered {failure.code}: {failure.read(300).decode(errors='replace')}")


def _opener(address: str) -> request.OpenerDirector:
    """Proxies from the environment, but never for loopback."""
    host = urlsplit(address).hostname or ""
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return request.build_opener(request.ProxyHandler({}))
    return request.build_opener()


def short_message(message: str | None) -> str | None:
    """Ray quotes the end of the log in its message: keep what it says itself, and the last line of free text."""
    if message is None:
        return None
    head, quoted, log = message.partition(", last available logs")
    words = [line for line in log.splitlines()[1:] if line.strip() and EVENT_PREFIX not in line]
    return f"{head}: {words[-1].strip()}" if quoted and words else head


def _seconds(milliseconds: int | None) -> float | None:
    return milliseconds / 1000 if milliseconds else None
