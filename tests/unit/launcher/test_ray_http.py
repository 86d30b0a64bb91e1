"""Ray's Jobs API over plain HTTP, against a server of our own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_launcher import cli
from ftl_launcher.backends import ray_http
from ftl_launcher.backends.ray import RayBackend
from ftl_launcher.backends.ray_http import Endpoint, RayUnreachable
from tests.unit.launcher.plans import CONFIG

TOKEN = "planted-token-3Lq"
JOB = {"status": "FAILED", "driver_exit_code": 3, "message": "m", "start_time": 1000, "end_time": 3000}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.answer(401, {"error": "no token"})
        answers = {"/api/version": {"ray_version": "2.60.0"}, "/api/jobs/known": JOB}
        if self.path == "/api/jobs/broken":
            return self.answer(500, {"error": "boom"})
        return self.answer(200, answers[self.path]) if self.path in answers else self.answer(404, {})

    def do_POST(self) -> None:
        self.answer(200 if self.path == "/api/jobs/known/stop" else 404, {"stopped": True})

    def answer(self, code: int, body: dict[str, object]) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield Endpoint(f"http://127.0.0.1:{server.server_port}", TOKEN)
    server.shutdown()


def test_version(endpoint: Endpoint) -> None:
    assert ray_http.check_reachable(endpoint) == "2.60.0"


def test_job_state(endpoint: Endpoint) -> None:
    state = ray_http.job_state(endpoint, "known")
    assert (state.state, state.exit_code, state.started_at, state.ended_at) == ("failed", 3, 1.0, 3.0)
    assert ray_http.job_state(endpoint, "unknown").state == "lost"
    with pytest.raises(FtlError, match=r"answered 500.*boom"):
        ray_http.job_state(endpoint, "broken")


@pytest.mark.parametrize(
    ("message", "short"),
    [
        (None, None),
        ("Job finished successfully.", "Job finished successfully."),
        (
            "Job entrypoint command failed with exit code 1, last available logs (truncated to 20,000 chars):\n"
            "Traceback (most recent call last):\nValueError: no rows\n::ftl:: {}\n",
            "Job entrypoint command failed with exit code 1: ValueError: no rows",
        ),
    ],
)
def test_a_quoted_log_is_cut_to_its_last_line(message: str | None, short: str | None) -> None:
    assert ray_http.short_message(message) == short


def test_stop(endpoint: Endpoint) -> None:
    ray_http.stop_job(endpoint, "known")
    with pytest.raises(FtlError, match="knows no job"):
        ray_http.stop_job(endpoint, "unknown")


def test_refused_token_is_told_apart_and_never_shown(endpoint: Endpoint) -> None:
    with pytest.raises(FtlError, match="refuses the token") as caught:
        ray_http.job_state(Endpoint(endpoint.address, "wrong-token"), "known")
    assert "wrong-token" not in caught.value.message
    assert TOKEN not in repr(endpoint)


def test_unreachable_is_told_within_seconds() -> None:
    start = time.monotonic()
    with pytest.raises(RayUnreachable, match=r"no Ray cluster answers at http://127.0.0.1:9"):
        ray_http.check_reachable(Endpoint("http://127.0.0.1:9"))
    assert time.monotonic() - start < 8


def test_proxies_are_not_asked_for_loopback(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert ray_http.check_reachable(endpoint) == "2.60.0"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://head:8265", "http://head:8265"),
        ("http://head:8265/", "http://head:8265"),
        ("head", "http://head:8265"),
        ("head:9000", "http://head:9000"),
        ("https://ray.example.org", "https://ray.example.org"),
    ],
)
def test_addresses(given: str, address: str) -> None:
    assert ray_http.parse_address(given) == address


@pytest.mark.parametrize("given", ["ray://head:10001", "", "http://"])
def test_bad_addresses(given: str) -> None:
    with pytest.raises(FtlError, match="not the address of a Ray dashboard"):
        ray_http.parse_address(given)


def test_token_as_ray_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ray_http.environment_token() is None
    (tmp_path / "t").write_text("from-file\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "t"))
    assert ray_http.environment_token() == "from-file"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "from-env")
    assert ray_http.environment_token() == "from-env"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert ray_http.environment_token() is None


def test_backend_asks_the_cluster_of_the_handle(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    assert RayBackend().state(f"ray+{endpoint.address}/known").exit_code == 3


def test_launch_to_an_unreachable_cluster(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config_file.write_text(CONFIG)
    start = time.monotonic()
    code = cli.run(["launch", str(config_file), "--ray-address", "http://127.0.0.1:9", "--name", "x"])
    assert code == 1
    assert time.monotonic() - start < 10
    assert "no Ray cluster answers at http://127.0.0.1:9" in capsys.readouterr().err
    assert cli.run(["status", "x", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "failed"
