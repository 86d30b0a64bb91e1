"""A Ray cluster that is already there, through its Jobs API."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from ftl_config.errors import FtlError
from ftl_launcher.backends import ray_http
from ftl_launcher.backends.protocol import BackendState, Offer, Request
from ftl_launcher.backends.ray_client import first_line, make_client
from ftl_launcher.backends.ray_http import Endpoint
from ftl_launcher.backends.ray_logs import tail_job
from ftl_launcher.plan import RunPlan
from ftl_launcher.render import fill_secrets, render_ray_job
from ftl_launcher.states import RunState

_SUBMIT_TRIES = 3


class RayBackend:
    """Submits to ``launch.ray_address`` (or RAY_ADDRESS); the cluster's Python environment must have the runner."""

    name = "ray"
    state_needs_import = False

    def refusals(self, plan: RunPlan) -> list[str]:
        found = []
        if plan.image is not None:
            found.append("launch.image: a running Ray cluster has its image already; leave the key out")
        if plan.extra_packages:
            found.append("launch.image.extra_packages: a Ray cluster has its packages already; add them to its image")
        if plan.resources.spot:
            found.append("launch.spot: a running Ray cluster has its machines already; leave the key out")
        if plan.mounts:
            found.append("launch.file_mounts: a Ray job cannot mount paths; use launch.workdir or bucket URLs")
        return found

    def request(self, plan: RunPlan) -> Request:
        text = render_ray_job(plan, python="python", config_path=None)
        address = ray_http.parse_address(_cluster_address(plan))
        return Request(
            backend=self.name,
            name=plan.name,
            handle=f"ray+{address}/{plan.submission_id}",
            filename="job.json",
            text=text,
            payload=json.loads(text),
            plan=plan,
        )

    def offer(self, request: Request, secrets: Mapping[str, str]) -> Offer | None:
        return None

    def submit(self, request: Request, secrets: Mapping[str, str]) -> None:
        endpoint, _ = _parse_handle(request.handle)
        ray_http.check_reachable(endpoint)
        submit_job(endpoint, fill_secrets(request.payload, secrets))

    def state(self, handle: str) -> BackendState:
        endpoint, submission_id = _parse_handle(handle)
        return ray_http.job_state(endpoint, submission_id)

    def logs(self, handle: str, *, follow: bool) -> Iterator[str | None]:
        endpoint, submission_id = _parse_handle(handle)
        return tail_job(endpoint, submission_id, follow=follow)

    def cancel(self, handle: str) -> None:
        endpoint, submission_id = _parse_handle(handle)
        ray_http.stop_job(endpoint, submission_id)

    def down(self, handle: str) -> None:
        if not self.state(handle).state.is_terminal:
            self.cancel(handle)  # the cluster is not ours to end

    def shell(self, handle: str, rank: int) -> list[str]:
        endpoint, _ = _parse_handle(handle)
        raise FtlError(
            f"a Ray cluster offers no shell; log in to {urlsplit(endpoint.address).hostname} as you do otherwise",
            hint="Ray's dashboard shows its nodes: `ftl open RUN`",
        )

    def dashboard(self, handle: str) -> str | None:
        endpoint, submission_id = _parse_handle(handle)
        return f"{endpoint.address}/#/jobs/{submission_id}"


def submit_job(endpoint: Endpoint, payload: Mapping[str, Any]) -> None:
    """Send a rendered job. Sending it twice is harmless: Ray refuses a submission id that it has.

    Raises:
        FtlError: Ray is not installed here, the cluster refuses the job, or it stays unreachable.
    """
    submission_id = str(payload["submission_id"])
    client = make_client(endpoint)
    for attempt in range(1, _SUBMIT_TRIES + 1):
        try:
            client.submit_job(**payload)
            return
        except (RuntimeError, OSError) as error:  # requests' exceptions are OSErrors
            if _is_submitted(endpoint, submission_id):
                return
            if attempt == _SUBMIT_TRIES or not _is_passing(error):
                raise FtlError(f"Ray at {endpoint.address} refused the job: {first_line(error)}") from error
            time.sleep(2**attempt)


def _cluster_address(plan: RunPlan) -> str:
    address = plan.placement.ray_address or os.environ.get("RAY_ADDRESS")
    if not address:
        raise FtlError(
            "the ray backend needs the address of a cluster",
            hint="--ray-address http://head:8265, launch.ray_address in the config, or RAY_ADDRESS",
            exit_code=2,
        )
    return address


def _parse_handle(handle: str) -> tuple[Endpoint, str]:
    """``ray+http://head:8265/ftl-run-1`` -> endpoint and submission id."""
    parts = urlsplit(handle.removeprefix("ray+"))
    return Endpoint(f"{parts.scheme}://{parts.netloc}", ray_http.environment_token()), parts.path.lstrip("/")


def _is_submitted(endpoint: Endpoint, submission_id: str) -> bool:
    try:
        return ray_http.job_state(endpoint, submission_id).state is not RunState.LOST
    except FtlError:
        return False


def _is_passing(error: Exception) -> bool:
    """Worth another try: connections and the server's own 5xx, such as a job agent that is still starting."""
    return isinstance(error, OSError) or "status code 5" in str(error)


BACKEND = RayBackend()
