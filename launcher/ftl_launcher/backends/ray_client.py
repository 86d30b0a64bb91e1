"""Ray's own Jobs client for an endpoint; imported only where a job is submitted or its log is followed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ftl_config.errors import FtlError
from ftl_launcher.backends.ray_http import Endpoint, RayUnreachable

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_ADDRESS_VARIABLES = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


def make_client(endpoint: Endpoint) -> JobSubmissionClient:
    """Ray's own client for an endpoint.

    Raises:
        FtlError: Ray is not installed.
    """
    try:
        from ray.job_submission import JobSubmissionClient
    except ImportError as error:
        raise FtlError(
            f"Ray is not installed here ({error})", hint="pip install 'ftl-tune[ray]' (or [runner] to train here)"
        ) from error
    with _without_address_variables():
        try:
            return JobSubmissionClient(endpoint.address, headers=dict(endpoint.headers))
        except (ConnectionError, RuntimeError) as error:
            raise RayUnreachable(f"no Ray cluster answers at {endpoint.address}: {first_line(error)}") from error


@contextmanager
def _without_address_variables() -> Iterator[None]:
    """Ray's client lets RAY_ADDRESS override the address it is given; the address of a run is never a guess."""
    saved = {name: os.environ.pop(name) for name in _ADDRESS_VARIABLES if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(saved)


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its type where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
