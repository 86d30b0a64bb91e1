"""Backends one by one, as far as they go without their service."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from ftl_config.errors import FtlError
from ftl_launcher.backends import ray_logs, registry, reopened, skypilot_logs
from ftl_launcher.backends.local import LocalBackend
from ftl_launcher.backends.protocol import Backend, BackendState
from ftl_launcher.backends.ray_http import Endpoint
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.clouds import CLOUDS, find_cloud
from ftl_launcher.paths import RunDir
from ftl_launcher.processes import process_tag
from ftl_launcher.states import RunState
from ftl_launcher.submission import make_request
from tests.unit.launcher.plans import plan_of

HANDLE = "local://run-1/ftl-run-1-1"


@pytest.mark.parametrize("name", list(registry.BACKENDS))
def test_every_backend_is_one(name: str) -> None:
    backend = load_backend(name)
    assert isinstance(backend, Backend)
    assert backend.name == name


def test_unknown_backend_gets_a_close_match() -> None:
    with pytest.raises(FtlError) as caught:
        load_backend("skypilo")
    assert caught.value.hint == "did you mean skypilot?"


def test_a_backend_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BACKENDS, "broken", "ftl_launcher.backends.no_such_module")
    with pytest.raises(FtlError, match="no_such_module"):
        load_backend("broken")


def test_backends_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_entry_points", lambda: {"theirs": "ftl_launcher.backends.ray"})
    assert load_backend("theirs").name == "ray"


@pytest.mark.parametrize("name", list(CLOUDS))
def test_clouds_answer_to_their_names(name: str) -> None:
    assert find_cloud(name).name == name


def test_unknown_cloud() -> None:
    with pytest.raises(FtlError) as caught:
        find_cloud("awz")
    assert caught.value.hint == "did you mean aws?"


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (("--launch.spot",), "launch.spot"),
        (("--launch.image=x",), "launch.image"),
        (("--launch.nodes=2",), "launch.nodes"),
        (("--launch.accelerators=H100:8",), "H100:8 asked for"),
        (("--launch.ray-address=http://h:1", "--launch.spot"), "launch.spot"),
        (("--launch.cloud=aws",), "vanish with it"),
        (("--launch.cloud=slurm", "--launch.spot", "--checkpoint=s3://b"), "Slurm: no spot"),
        (("--launch.cloud=slurm", "--launch.image=x", "--checkpoint=s3://b"), "Pyxis"),
        (("--launch.cloud=aws", "--launch.partition=p", "--checkpoint=s3://b"), "partitions are Slurm's"),
    ],
)
def test_what_cannot_be_done_is_refused_with_a_reason_before_submission(flags: tuple[str, ...], part: str) -> None:
    with pytest.raises(FtlError, match="cannot run this") as caught:
        make_request(plan_of(*flags))
    assert caught.value.exit_code == 2
    assert part in caught.value.message


def test_ray_address_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    plan = plan_of("--launch.backend=ray")
    with pytest.raises(FtlError, match="needs the address"):
        load_backend("ray").request(plan)
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    assert load_backend("ray").request(plan).handle == "ray+http://head:8265/ftl-run-1-1"


class TestLocalState:
    """What a run's folder says about it."""

    @pytest.fixture
    def run_dir(self) -> RunDir:
        return RunDir.of("run-1").create()

    def test_nothing_there(self) -> None:
        assert LocalBackend().state(HANDLE).state is RunState.LOST

    def test_result_of_this_launch(self, run_dir: RunDir) -> None:
        run_dir.result.write_text(json.dumps({"submission_id": "ftl-run-1-1", "state": "failed", "exit_code": 3}))
        assert LocalBackend().state(HANDLE) == BackendState(RunState.FAILED, exit_code=3)
        assert LocalBackend().state("local://run-1/ftl-run-1-2").state is RunState.LOST

    def test_watchdog_at_work(self, run_dir: RunDir) -> None:
        run_dir.head.write_text(json.dumps({"status": "starting", "watchdog": process_tag()}))
        assert LocalBackend().state(HANDLE).state is RunState.STARTING

    def test_watchdog_gone(self, run_dir: RunDir) -> None:
        run_dir.head.write_text(json.dumps({"status": "ready", "watchdog": "999999999:1"}))
        assert LocalBackend().state(HANDLE).state is RunState.LOST

    def test_ray_going_down(self, run_dir: RunDir) -> None:
        head = {"status": "ready", "watchdog": process_tag(), "address": "http://127.0.0.1:9", "token_path": "/none"}
        run_dir.head.write_text(json.dumps(head))
        assert LocalBackend().state(HANDLE).state is RunState.RUNNING

    def test_half_written_file(self, run_dir: RunDir) -> None:
        run_dir.head.write_text('{"status": "rea')
        assert LocalBackend().state(HANDLE).state is RunState.LOST


class TestSkyPilot:
    """Against an SDK of our own that notes what it is asked."""

    @pytest.fixture
    def sky(self, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
        notes = SimpleNamespace(task=None, launched=None, status="RUNNING", cancelled=None, queued=True, requests=[])
        module: Any = ModuleType("sky")

        def from_yaml_config(config: dict[str, Any], secrets_overrides: list[tuple[str, str]]) -> str:
            notes.task, notes.secrets = config, dict(secrets_overrides)
            return "task"

        def queue(refresh: bool, name_match: str) -> list[list[Any]]:
            record = {
                "status": SimpleNamespace(value=notes.status),
                "job_id": 1,
                "failure_reason": "why",
                "start_at": 1.0,
            }
            job = SimpleNamespace(job_name="ftl-run-1-1", model_dump=lambda: record)
            return [[job] if notes.queued and name_match == "ftl-run-1-1" else []]

        module.Task = SimpleNamespace(from_yaml_config=from_yaml_config)
        module.get = module.stream_and_get = lambda answer: answer
        module.api_status = lambda: notes.requests
        module.status = lambda cluster_names: []
        module.launch = lambda task, cluster_name, down: setattr(notes, "launched", ("cluster", cluster_name, down))
        module.jobs = ModuleType("sky.jobs")
        module.jobs.launch = lambda task, name: setattr(notes, "launched", ("job", name))
        module.jobs.queue_v2 = queue
        module.jobs.cancel = lambda name: setattr(notes, "cancelled", name)
        module.jobs.tail_logs = lambda name, follow, preload_content: iter([None, "one\ntw", None, "o\nthree"])
        monkeypatch.setitem(sys.modules, "sky", module)
        monkeypatch.setitem(sys.modules, "sky.jobs", module.jobs)
        return notes

    def request(self, *flags: str) -> Any:
        return make_request(plan_of("--launch.cloud=aws", "--checkpoint=s3://b", *flags))

    def test_a_run_is_a_managed_job_with_secrets_beside_it(self, sky: SimpleNamespace) -> None:
        sky.queued = False
        backend, request = self.request()
        backend.submit(request, {"HF_TOKEN": "value"})
        assert sky.launched == ("job", "ftl-run-1-1")
        assert sky.task == request.payload
        assert sky.secrets["HF_TOKEN"] == "value"
        assert len(sky.secrets["RAY_AUTH_TOKEN"]) == 64
        assert "value" not in request.text

    def test_what_skypilot_has_is_not_sent_again(self, sky: SimpleNamespace) -> None:
        backend, request = self.request()
        backend.submit(request, {})
        assert sky.launched is None

    def test_a_launch_that_is_being_taken_is_not_lost(self, sky: SimpleNamespace) -> None:
        sky.queued = False
        backend, request = self.request()
        body = {"name": "ftl-run-1-1"}
        sky.requests = [SimpleNamespace(name="sky.jobs.launch", request_id="7", request_body=json.dumps(body))]
        assert backend.state(request.handle).state == "pending"
        sky.requests = [SimpleNamespace(name="sky.jobs.launch", request_id="8", request_body="not ours to see")]
        assert backend.state(request.handle).state == "lost"

    def test_autostop_means_a_cluster(self, sky: SimpleNamespace) -> None:
        backend, request = self.request("--launch.autostop-minutes=10")
        backend.submit(request, {})
        assert sky.launched == ("cluster", "ftl-run-1-1", False)

    @pytest.mark.parametrize(("cloud", "down"), [("aws", True), ("slurm", False)])
    def test_a_cluster_that_is_not_managed_goes_with_its_run(
        self, cloud: str, down: bool, sky: SimpleNamespace
    ) -> None:
        backend, request = make_request(
            plan_of(f"--launch.cloud={cloud}", "--checkpoint=s3://b", "--launch.managed=false")
        )
        backend.submit(request, {})
        assert sky.launched == ("cluster", "ftl-run-1-1", down)

    def test_spot_wants_a_managed_job(self) -> None:
        with pytest.raises(FtlError, match="spot without a managed job"):
            self.request("--launch.spot", "--launch.managed=false")

    @pytest.mark.parametrize(
        ("word", "state"),
        [
            ("RECOVERING", "recovering"),
            ("SUCCEEDED", "succeeded"),
            ("FAILED_SETUP", "failed"),
            ("STARTING", "starting"),
        ],
    )
    def test_states(self, word: str, state: str, sky: SimpleNamespace) -> None:
        sky.status = word
        assert load_backend("skypilot").state("skypilot://job/ftl-run-1-1").state == state

    def test_unknown_run(self, sky: SimpleNamespace) -> None:
        assert load_backend("skypilot").state("skypilot://job/other").state == "lost"

    def test_logs_come_as_lines(self, sky: SimpleNamespace) -> None:
        sky.status = "SUCCEEDED"
        lines = load_backend("skypilot").logs("skypilot://job/ftl-run-1-1", follow=True)
        assert [line for line in lines if line is not None] == ["one", "two", "three"]

    @pytest.mark.parametrize("word", ["STARTING", "RECOVERING"])
    def test_logs_do_not_wait_for_machines(self, word: str, sky: SimpleNamespace) -> None:
        sky.status = word
        assert list(load_backend("skypilot").logs("skypilot://job/ftl-run-1-1", follow=False)) == []

    def test_a_stream_that_ends_before_the_run_is_opened_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reopened, "_RETRY_S", 0.0)
        streams = [
            ["a\nb\n"],
            [None, "a\nb\nc\n"],
            ["a\nof the next attempt\nb\n"],
            ["a\nof the next attempt\nb\nend\n"],
        ]
        left = list(streams)
        lines = skypilot_logs.stream_lines(lambda: left.pop(0), lambda: len(left) == 1, follow=True)
        found = [line for line in lines if line is not None]
        assert found == ["a", "b", "c", "of the next attempt", "b", "end"]

    def test_cancel(self, sky: SimpleNamespace) -> None:
        load_backend("skypilot").cancel("skypilot://job/ftl-run-1-1")
        assert sky.cancelled == "ftl-run-1-1"

    def test_without_skypilot_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "sky", None)
        backend, request = self.request()
        with pytest.raises(FtlError) as caught:
            backend.submit(request, {})
        assert "ftl-tune[sky]" in (caught.value.hint or "")


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray.job_submission", None)
    from ftl_launcher.backends.ray_client import make_client

    with pytest.raises(FtlError) as caught:
        make_client(Endpoint("http://127.0.0.1:9"))
    assert "ftl-tune[ray]" in (caught.value.hint or "")


class TestRayLogs:
    """A websocket that breaks is picked up again, and no line comes twice."""

    @pytest.fixture(autouse=True)
    def _quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(ray_logs, "_IDLE_S", 0.01)
        monkeypatch.setattr(ray_logs, "_RECONNECT_DELAYS_S", (0.0, 0.0, 0.0))

    def follow(self, monkeypatch: pytest.MonkeyPatch, connections: list[list[Any]], state: str) -> Iterator[str | None]:
        class Client:
            async def tail_job_logs(self, submission_id: str) -> AsyncIterator[str]:
                for chunk in connections.pop(0):
                    if isinstance(chunk, Exception):
                        raise chunk
                    yield chunk

        monkeypatch.setattr("ftl_launcher.backends.ray_logs.make_client", lambda endpoint: Client())
        monkeypatch.setattr(ray_logs.ray_http, "job_state", lambda *_: BackendState(RunState(state)))
        return ray_logs.tail_job(Endpoint("http://h"), "id", follow=True)

    def test_lines(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lines = self.follow(monkeypatch, [["a\nb", "c\nlast"]], "succeeded")
        assert [line for line in lines if line is not None] == ["a", "bc", "last"]

    def test_reconnect(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connections = [["a\nb\nhalf", RuntimeError("gone")], ["a\nb\nhalf a line\n"]]
        lines = self.follow(monkeypatch, connections, "succeeded")
        assert [line for line in lines if line is not None] == ["a", "b", "half a line"]

    def test_giving_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        connections: list[list[Any]] = [[RuntimeError("gone")] for _ in range(9)]
        with pytest.raises(FtlError, match="lost the log"):
            list(self.follow(monkeypatch, connections, "running"))
