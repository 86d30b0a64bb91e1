"""dstack's own server on loopback, with nothing to rent; and its tasks' commands, run as its runner runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_config.load import load_text
from ftl_launcher.backends.dstack import DstackBackend
from ftl_launcher.backends.local_head import free_ports
from ftl_launcher.backends.protocol import Request
from ftl_launcher.plan import HostFacts, make_plan
from ftl_launcher.states import RunState
from ftl_launcher.submission import make_request
from tests.services.ray_cluster import STANDIN
from tests.services.test_ray_backend import CONFIG, SECRET

pytest.importorskip("dstack._internal.server.app")
pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

TOKEN = "11111111-2222-3333-4444-555555555555"
NODE_IPS = ("127.0.0.2", "127.0.0.3")


def request_of(*flags: str, name: str = "run-1") -> Request:
    base = ["--launch.backend=dstack", "--checkpoint=s3://bucket/runs", "--launch.image=ghcr.io/me/ftl:cuda"]
    loaded = load_text(CONFIG, [*base, *flags], name="config.yml")
    host = HostFacts(workdir="/", environment_names=frozenset({"HF_TOKEN"}))
    return make_request(make_plan(loaded, name, host, ftl_version="1"))[1]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a server that the clients of this module talk to."""
    folder = tmp_path_factory.mktemp("dstack")
    port = free_ports(1)[0]
    address = f"http://127.0.0.1:{port}"
    argv = [sys.executable, "-m", "dstack._internal.cli.main", "server", "--yes", "--host=127.0.0.1", f"--port={port}"]
    process = subprocess.Popen(
        [*argv, f"--token={TOKEN}"],
        env={**os.environ, "HOME": str(folder), "DSTACK_SERVER_DIR": str(folder / "server")},
        stdout=(folder / "log").open("w"),
        stderr=subprocess.STDOUT,
        process_group=0,
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"SERVER_URL": address, "TOKEN": TOKEN, "PROJECT": "main"}.items():
            patch.setenv(f"DSTACK_{name}", value)
        _wait_until_up(address, folder / "log")
        yield folder / "server"
    os.killpg(process.pid, signal.SIGTERM)
    process.wait(30)


def _wait_until_up(address: str, log: Path) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    query = urllib.request.Request(f"{address}/api/projects/list", data=b"{}", headers=headers)
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError):
            if json.load(urllib.request.urlopen(query, timeout=5)):
                return
        time.sleep(1)
    raise TimeoutError(log.read_text()[-3000:])


def offline(request: Request) -> Request:
    """The user and architecture named, which the server would look up in the image's registry."""
    resources = {**request.payload["resources"], "cpu": "x86:2.."}
    return replace(request, payload={**request.payload, "user": "root", "resources": resources})


def test_a_run_from_submission_to_cancel(server: Path) -> None:
    backend, request = DstackBackend(), offline(request_of("--launch.nodes=2", "--launch.accelerators=H100:8"))
    assert backend.state(request.handle).state is RunState.LOST
    backend.submit(request, {"HF_TOKEN": SECRET})
    assert backend.state(request.handle).state in (RunState.PENDING, RunState.RECOVERING)
    assert str(backend.dashboard(request.handle)).startswith(os.environ["DSTACK_SERVER_URL"])
    with pytest.raises(FtlError, match="already"):
        backend.submit(request, {"HF_TOKEN": SECRET})
    backend.cancel(request.handle)
    deadline = time.monotonic() + 120
    while backend.state(request.handle).state is not RunState.CANCELLED:
        assert time.monotonic() < deadline
        time.sleep(1)
    backend.cancel(request.handle)
    backend.down(request.handle)


def test_what_nobody_has_is_said_before_anything_is_submitted(server: Path) -> None:
    request = offline(request_of("--launch.accelerators=H100:8", name="run-2"))
    with pytest.raises(FtlError, match="no machine that fits"):
        DstackBackend().offer(request, {"HF_TOKEN": SECRET})


def test_the_servers_word_against_a_task_is_ours(server: Path) -> None:
    request = offline(request_of(name="run-3"))
    broken = replace(request, payload={**request.payload, "backends": ["moon"]})
    with pytest.raises(FtlError, match="backends"):
        DstackBackend().submit(broken, {})


def test_logs_come_from_the_servers_store(server: Path) -> None:
    """Written where the server keeps what its runners send, over more than a page."""
    from dstack.api import Client

    backend, request = DstackBackend(), offline(request_of(name="run-4"))
    backend.submit(request, {"HF_TOKEN": SECRET})
    run = Client.from_config().runs.get("ftl-run-4-1")
    assert run is not None
    folder = server / f"projects/main/logs/ftl-run-4-1/{run._run.jobs[0].job_submissions[-1].id}"
    folder.mkdir(parents=True)
    events = [
        {
            "timestamp": "2026-01-02T03:04:05.000006+00:00",
            "log_source": "stdout",
            "message": f"line {number}\r\n",
        }
        for number in range(2500)
    ]
    (folder / "job.log").write_text("".join(json.dumps(event) + "\n" for event in events))
    lines = [line for line in backend.logs(request.handle, follow=False) if line is not None]
    assert lines == [f"line {number}" for number in range(2500)]
    backend.down(request.handle)


def start(rank: int, nodes: int, folder: Path, **env: str) -> subprocess.Popen[str]:
    """A node's commands as dstack's runner has them: joined, in an interactive bash, with its variables."""
    task = request_of(f"--launch.nodes={nodes}").payload
    home = folder / f"home-{rank}"
    home.mkdir()
    variables = {
        **dict(entry.split("=", 1) for entry in task["env"] if "=" in entry),
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(STANDIN),
        "DSTACK_NODE_RANK": str(rank),
        "DSTACK_NODES_IPS": "\n".join(NODE_IPS[:nodes]),
        "RAY_AUTH_TOKEN": "0" * 64,
        "FTL_CHECKPOINT_URI": str(folder / "checkpoints"),
        **env,
    }
    return subprocess.Popen(
        ["/bin/bash", "-i", "-c", " && ".join(command.strip() for command in task["commands"])],
        env=variables,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    found: list[subprocess.Popen[str]] = []
    yield found
    for process in found:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def test_two_nodes(started: list[subprocess.Popen[str]], tmp_path: Path) -> None:
    started += [start(0, 2, tmp_path), start(1, 2, tmp_path)]
    output, _ = started[0].communicate(timeout=500)
    assert started[0].returncode == 0, output
    assert '"status":"succeeded"' in output
    assert started[1].wait(60) == 0


def test_the_interrupt_of_dstacks_runner_saves_a_checkpoint(
    started: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    started.append(start(0, 1, tmp_path, STANDIN_STEPS="4000"))
    head = started[0]
    assert head.stdout is not None
    for line in head.stdout:
        if '"type":"step","step":3' in line:
            break
    head.send_signal(signal.SIGINT)
    output = head.stdout.read()
    assert head.wait(60) == 20
    assert '"type":"checkpoint"' in output
