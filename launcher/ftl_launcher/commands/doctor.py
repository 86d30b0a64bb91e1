"""``ftl doctor``: what is here, what is not, and what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import click

from ftl_config.errors import FtlError
from ftl_launcher.backends import ray_http
from ftl_launcher.backends.ray_http import Endpoint
from ftl_launcher.commands.options import json_option
from ftl_launcher.console import make_console, print_json
from ftl_launcher.credentials import clouds_with_credentials
from ftl_launcher.host import detected_gpus
from ftl_launcher.paths import state_dir
from ftl_launcher.secret_names import default_secret_names
from ftl_launcher.versions import ftl_version

_TIMEOUT_S = 3.0
_MIN_SHM_GB = 1.0

# distribution -> (what it is for, what installs it)
_PACKAGES = {
    "ray": ("launching on this machine and on Ray clusters", "ftl-tune[ray]"),
    "torch": ("training in this environment", "ftl-tune[runner]"),
    "transformers": ("training in this environment", "ftl-tune[runner]"),
    "deepspeed": ("ZeRO sharding", "ftl-tune[runner]"),
    "boto3": ("looking at the checkpoint bucket before a launch", "boto3"),
    "skypilot": ("renting machines", "ftl-tune[sky]"),
    "dstack": ("renting machines through dstack", "ftl-tune[dstack]"),
    "bitsandbytes": ("4-bit and 8-bit weights", "ftl-tune[quantization]"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report."""

    what: str
    status: Literal["ok", "missing", "bad"]
    detail: str
    fix: str | None = None


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Report what is installed and reachable; exit code 1 if something that is set up does not work."""
    findings = [*_machine(), *_packages(), *_services()]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    return int(any(finding.status == "bad" for finding in findings))


def _machine() -> Iterator[Finding]:
    yield Finding("ftl", "ok", f"{ftl_version()} on Python {platform.python_version()} ({sys.executable})")
    gpus = detected_gpus()
    yield Finding("accelerators", "ok", f"{gpus} found" if gpus else f"none; {os.cpu_count()} CPU cores")
    yield _state_folder()
    shm = Path("/dev/shm")  # noqa: S108 - only measured
    if shm.exists():
        free_gb = shutil.disk_usage(shm).free / 1e9
        status: Literal["ok", "bad"] = "ok" if free_gb >= _MIN_SHM_GB else "bad"
        fix = None if status == "ok" else "give the container more shared memory (docker run --shm-size=8g)"
        yield Finding("shared memory", status, f"{free_gb:.1f} GB free in /dev/shm", fix)


def _state_folder() -> Finding:
    folder = path = state_dir()
    while not path.exists():
        path = path.parent
    if os.access(path, os.W_OK | os.X_OK):
        return Finding("state folder", "ok", str(folder))
    return Finding("state folder", "bad", f"{folder} cannot be written", "set FTL_HOME to a writable folder")


def _packages() -> Iterator[Finding]:
    for name, (purpose, extra) in _PACKAGES.items():
        try:
            yield Finding(name, "ok", metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, "missing", f"needed for {purpose}", f"pip install '{extra}'")


def _services() -> Iterator[Finding]:
    names = [name for name in default_secret_names() if os.environ.get(name)]
    yield Finding("credentials", "ok", f"set here: {', '.join(names)}" if names else "none in the environment")
    clouds = clouds_with_credentials()
    fix = None if clouds else "docs/clouds.md says for each cloud how"
    told = ", ".join(f"{name} ({place})" for name, place in clouds.items())
    yield Finding("clouds", "ok" if clouds else "missing", told or "no cloud's credentials here", fix)
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        yield _port_answers("S3 endpoint", endpoint, "start the server, or correct AWS_ENDPOINT_URL")
    if address := os.environ.get("RAY_ADDRESS"):
        yield _ray_cluster(address)


def _port_answers(what: str, url: str, fix: str) -> Finding:
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=_TIMEOUT_S).close()
    except OSError as error:
        return Finding(what, "bad", f"{url}: {error}", fix)
    return Finding(what, "ok", url)


def _ray_cluster(address: str) -> Finding:
    try:
        endpoint = Endpoint(ray_http.parse_address(address), ray_http.environment_token())
        return Finding("Ray cluster", "ok", f"{endpoint.address}: Ray {ray_http.check_reachable(endpoint)}")
    except FtlError as error:
        return Finding("Ray cluster", "bad", error.message, error.hint)


def _print(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    marks = {"ok": Text("ok", "green"), "missing": Text("-", "dim"), "bad": Text("bad", "red")}
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        fix = f"  ({finding.fix})" if finding.fix else ""
        table.add_row(finding.what, marks[finding.status], Text(finding.detail + fix))
    make_console().print(table)
