"""The command that a container is started with, and what is made of the engine's answers."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ftl_config.errors import FtlError
from ftl_launcher.backends.docker import DockerBackend, _state
from ftl_launcher.idle import command_lines, with_idle
from ftl_launcher.images import flavours
from ftl_launcher.plan import HostFacts
from ftl_launcher.states import RunState
from ftl_launcher.submission import make_request
from tests.unit.launcher.plans import HOST, plan_of

ME = replace(HOST, user="1001:1001", hf_home="/home/me/.cache/huggingface")


def command_of(*flags: str, host: HostFacts = ME) -> list[str]:
    plan = plan_of("--launch.cloud=docker", *flags, host=host)
    _, request = make_request(replace(plan, secret_names=("HF_TOKEN",)))
    assert shlex.split(request.text.replace("\\\n", " ")) == request.payload["argv"], "what is shown is what is run"
    argv: list[str] = request.payload["argv"]
    return argv


def test_the_folder_the_cache_and_what_lies_elsewhere_are_seen_at_their_own_paths() -> None:
    argv = command_of("--base-model=/models/llama", "--launch.image=ghcr.io/me/ftl:1", "--checkpoint=s3://b/c")
    assert argv[:4] == ["docker", "run", "--detach", "--name=ftl-run-1-1"]
    assert [word for word in argv if word.startswith("--volume")] == [
        "--volume=/models/llama:/models/llama",
        "--volume=/home/me/.cache/huggingface:/home/me/.cache/huggingface",
        "--volume=/home/me/project:/home/me/project",
    ]
    assert {"--workdir=/home/me/project", "--user=1001:1001", "--env=HF_HOME=/home/me/.cache/huggingface"} <= set(argv)
    assert "--ipc=host" in argv
    assert not any("ulimit" in word for word in argv)
    assert argv[-4:-1] == ["ghcr.io/me/ftl:1", "bash", "-c"]


def test_secrets_stand_in_it_by_name() -> None:
    assert "--env=HF_TOKEN" in command_of()


@pytest.mark.parametrize(
    ("flags", "words", "flavour"),
    [
        ((), set(), "cpu"),
        (("--launch.accelerators=A100:2",), {"--gpus=all", "--ulimit=memlock=-1", "--ulimit=stack=67108864"}, "cuda"),
        (("--launch.accelerators=A100:2", "--launch.cloud=podman"), {"--device=nvidia.com/gpu=all"}, "cuda"),
        (("--launch.accelerators=MI300X:8",), {"--device=/dev/kfd", "--device=/dev/dri", "--group-add=video"}, "rocm"),
    ],
)
def test_accelerators_and_the_image_for_them(flags: tuple[str, ...], words: set[str], flavour: str) -> None:
    argv = command_of(*flags)
    assert words <= set(argv)
    assert argv[-4] == flavours()[flavour].reference
    assert words or not any("gpu" in word or "kfd" in word for word in argv[:-1])


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--launch.spot", "this machine is not rented"),
        ("--launch.nodes=2", "one node"),
        ("--launch.file-mounts={/data: 's3://bucket/data'}", "no folder of this machine"),
    ],
)
def test_refusals(flag: str, reason: str) -> None:
    with pytest.raises(FtlError, match=reason):
        command_of(flag)


@pytest.mark.parametrize(
    ("found", "state"),
    [
        ({"Status": "created"}, RunState.STARTING),
        ({"Status": "running", "StartedAt": "2026-01-02T03:04:05.123456789Z"}, RunState.RUNNING),
        ({"Status": "exited", "ExitCode": 0}, RunState.SUCCEEDED),
        ({"Status": "exited", "ExitCode": 3}, RunState.FAILED),
        ({"Status": "dead", "ExitCode": 137, "OOMKilled": True}, RunState.FAILED),
    ],
)
def test_states(found: dict[str, object], state: RunState) -> None:
    assert _state(found).state is state


@pytest.mark.parametrize(
    "text", ["2026-01-02T03:04:05.123456789Z", "2026-01-02T04:04:05+01:00", "2026-01-02T03:04:05Z"]
)
def test_times(text: str) -> None:
    assert _state({"Status": "running", "StartedAt": text}).started_at == 1767323045.0
    assert _state({"Status": "running", "StartedAt": "0001-01-01T00:00:00Z"}).started_at is None


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine that does nothing but answer with a file's text."""
    program = tmp_path / "docker"
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return program


def answer(program: Path, *, out: str = "", error: str = "", code: int = 0) -> None:
    program.write_text(
        f"#!/bin/sh\nprintf '%s' {shlex.quote(out)}\nprintf '%s' {shlex.quote(error)} >&2\nexit {code}\n"
    )
    program.chmod(0o755)


def test_a_container_that_is_gone_is_lost_and_a_silent_engine_is_an_error(engine: Path) -> None:
    answer(engine, error="Error: No such container: ftl-run-1-1", code=1)
    assert DockerBackend().state("docker://docker/ftl-run-1-1").state is RunState.LOST
    answer(engine, error="Cannot connect to the Docker daemon at unix:///var/run/docker.sock.", code=1)
    with pytest.raises(FtlError, match="Cannot connect to the Docker daemon"):
        DockerBackend().state("docker://docker/ftl-run-1-1")


def test_lines_come_with_signs_of_life_between() -> None:
    code = "import time; print('one', flush=True); time.sleep(2); print('two')"
    lines = list(command_lines([sys.executable, "-c", code]))
    assert [line for line in lines if line is not None] == ["one", "two"]
    assert None in lines[lines.index("one") : lines.index("two")]


def test_what_the_source_raises_is_raised() -> None:
    def source():  # type: ignore[no-untyped-def]
        yield "one"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        list(with_idle(source()))


def test_folders_that_the_run_writes_are_made(engine: Path, tmp_path: Path) -> None:
    answer(engine, out="0123456789ab")
    plan = plan_of("--launch.cloud=docker", f"--checkpoint={tmp_path}/kept/here", host=ME)
    backend, request = make_request(replace(plan, mounts={name: name for name in plan.mounts if "kept" in name}))
    backend.submit(request, {})
    assert (tmp_path / "kept/here").is_dir()
