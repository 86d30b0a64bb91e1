"""A container on this machine, by docker or podman: the image that runs on rented machines, and nothing rented."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from ftl_config.errors import FtlError
from ftl_launcher.accelerators import Vendor
from ftl_launcher.backends.program import TIMEOUT_S, call, last_line
from ftl_launcher.backends.protocol import BackendState, Offer, Request
from ftl_launcher.backends.refusals import unsuitable
from ftl_launcher.backends.tail import tail_file
from ftl_launcher.idle import command_lines
from ftl_launcher.images import image_of
from ftl_launcher.paths import RunDir
from ftl_launcher.plan import RunPlan
from ftl_launcher.render import STOP_GRACE_S, render_container_script
from ftl_launcher.states import RunState

# Pinned memory for the collectives of accelerators. Without one the engine's own limits do, which it may not raise.
_LIMITS = ("--ulimit=memlock=-1", "--ulimit=stack=67108864")
_ROCM = ("--device=/dev/kfd", "--device=/dev/dri", "--group-add=video", "--security-opt=seccomp=unconfined")
_INSTALL = "install docker or podman"

_UNSUITABLE = {
    "spot": "launch.spot: this machine is not rented; leave the key out or choose another --cloud",
    "nodes": "launch.nodes: this machine is one node; choose a --cloud with more",
    "autostop": "launch.autostop_minutes: a container ends with the run; leave the key out",
}


class DockerBackend:
    """One detached container a run. The folder that ftl is called in is there at the same path."""

    name = "docker"
    state_needs_import = False

    def refusals(self, plan: RunPlan) -> list[str]:
        asked = {
            "spot": plan.resources.spot,
            "nodes": plan.num_nodes > 1,
            "autostop": plan.placement.autostop_minutes is not None,
        }
        found = unsuitable(asked, _UNSUITABLE)
        remote = [source for source in plan.mounts.values() if "://" in source]
        if remote:
            found.append(f"launch.file_mounts: {remote[0]} is no folder of this machine; read buckets by their URL")
        return found

    def request(self, plan: RunPlan) -> Request:
        engine = choose_engine(plan)
        argv = _run_command(plan, engine)
        return Request(
            backend=self.name,
            name=plan.name,
            handle=f"docker://{engine}/{plan.submission_id}",
            filename="run.sh",
            text=" \\\n  ".join(shlex.join(group) for group in _readable(argv)) + "\n",
            payload={"argv": argv},
            plan=plan,
        )

    def offer(self, request: Request, secrets: Mapping[str, str]) -> Offer | None:
        return None

    def submit(self, request: Request, secrets: Mapping[str, str]) -> None:
        # `--env NAME` without a value takes it from the client's own environment: no secret stands in an argv.
        engine, container = _parse_handle(request.handle)
        for source in request.plan.mounts.values():
            if not Path(source).exists():  # where the run will write; what it reads was looked at before
                Path(source).mkdir(parents=True)
        try:
            _tell(request.payload["argv"], env={**os.environ, **secrets}, timeout_s=None)
        except FtlError:
            # What could not be started would keep the name; one that runs already is left alone.
            call([engine, "rm", container], install=_INSTALL)
            raise

    def state(self, handle: str) -> BackendState:
        engine, container = _parse_handle(handle)
        asked = call([engine, "inspect", "--type", "container", container], install=_INSTALL)
        if asked.returncode:
            if "no such" in asked.stderr.lower():
                return BackendState(RunState.LOST, message=f"{engine} knows no container {container}")
            raise FtlError(f"{engine} cannot be asked about {container}: {last_line(asked.stderr)}")
        return _state(json.loads(asked.stdout)[0]["State"])

    def logs(self, handle: str, *, follow: bool) -> Iterator[str | None]:
        engine, container = _parse_handle(handle)
        kept = _kept_log(container)
        if kept.exists() and self.state(handle).state is RunState.LOST:
            return tail_file(kept, follow=False, is_over=lambda: True)
        return command_lines([engine, "logs", *(["--follow"] if follow else []), container])

    def cancel(self, handle: str) -> None:
        engine, container = _parse_handle(handle)
        if not self.state(handle).state.is_terminal:
            _tell([engine, "kill", "--signal", "TERM", container])

    def down(self, handle: str) -> None:
        engine, container = _parse_handle(handle)
        # One that has ended already says so, and is removed all the same.
        call([engine, "kill", container], install=_INSTALL)
        _keep_log(engine, container)
        done = call([engine, "rm", "--force", container], install=_INSTALL)
        if done.returncode and "no such" not in done.stderr.lower():
            raise FtlError(f"{engine} did not remove {container}: {last_line(done.stderr)}")

    def shell(self, handle: str, rank: int) -> list[str]:
        engine, container = _parse_handle(handle)
        if rank:
            raise FtlError(f"{container} has one node: rank 0", exit_code=2)
        return [engine, "exec", "--interactive", "--tty", container, "bash"]

    def dashboard(self, handle: str) -> str | None:
        return None


def _tell(argv: list[str], *, env: Mapping[str, str] | None = None, timeout_s: int | None = TIMEOUT_S) -> None:
    """Have the engine do something; what it cannot do is an error."""
    done = call(argv, env=env, timeout_s=timeout_s, install=_INSTALL)
    if done.returncode:
        raise FtlError(
            f"{argv[0]} {argv[1]} failed: {last_line(done.stderr)}",
            hint="`ftl doctor` says whether containers run here; `ftl images list` names images",
        )


def _kept_log(container: str) -> Path:
    """Where the output of a container is once it is removed: ``ftl-<run>-<launch>`` -> the run's folder."""
    run, _, launch = container.removeprefix("ftl-").rpartition("-")
    return RunDir.of(run).log_of(int(launch))


def _keep_log(engine: str, container: str) -> None:
    target = _kept_log(container)
    if target.parent.is_dir():
        with target.open("wb") as file:
            done = subprocess.run([engine, "logs", container], stdout=file, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            target.unlink()


def choose_engine(plan: RunPlan) -> str:
    """``--cloud podman`` asks for podman by name; otherwise docker where it is installed, else podman."""
    if plan.placement.clouds:
        return plan.placement.clouds[0]
    return "podman" if shutil.which("podman") and not shutil.which("docker") else "docker"


def _run_command(plan: RunPlan, engine: str) -> list[str]:
    argv = [engine, "run", "--detach", f"--name={plan.submission_id}"]
    argv += [f"--label=ftl.run={plan.name}", f"--label=ftl.config={plan.config_digest}"]
    argv += ["--network=host", "--ipc=host", f"--stop-timeout={STOP_GRACE_S}", *_accelerators(plan, engine)]
    # Files that the run writes belong to whoever launched it; that user may have no home in the image.
    argv += [f"--user={plan.host_user}", "--env=HOME=/tmp"] if plan.host_user else []
    argv += [f"--volume={source}:{target}" for target, source in plan.mounts.items()]
    if plan.workdir is not None:
        argv += [f"--volume={plan.workdir}:{plan.workdir}", f"--workdir={plan.workdir}"]
    argv += [f"--env={name}={value}" for name, value in sorted(plan.env.items())]
    argv += [f"--env={name}" for name in plan.secret_names]
    return [*argv, image_of(plan), "bash", "-c", render_container_script(plan)]


def _accelerators(plan: RunPlan, engine: str) -> list[str]:
    if not plan.resources.accelerators:
        return []
    if plan.resources.vendor is Vendor.AMD:
        return [*_LIMITS, *_ROCM]
    return [*_LIMITS, "--device=nvidia.com/gpu=all" if engine == "podman" else "--gpus=all"]


def _readable(argv: list[str]) -> list[list[str]]:
    """One line an option."""
    return [argv[:3], *([option] for option in argv[3:-4]), argv[-4:]]


def _state(found: Mapping[str, Any]) -> BackendState:
    """docker's words (also podman's): created, running, paused, restarting, removing, exited, dead."""
    word, started_at = str(found["Status"]), _seconds(found.get("StartedAt"))
    if word in ("created", "configured", "initialized"):
        return BackendState(RunState.STARTING)
    if word in ("running", "paused", "restarting", "stopping", "removing"):
        return BackendState(RunState.RUNNING, started_at=started_at)
    code = int(found.get("ExitCode") or 0)
    message = found.get("Error") or ("out of memory" if found.get("OOMKilled") else None)
    return BackendState(
        RunState.FAILED if code else RunState.SUCCEEDED,
        exit_code=code,
        message=message,
        started_at=started_at,
        ended_at=_seconds(found.get("FinishedAt")),
    )


def _seconds(text: str | None) -> float | None:
    """Seconds since 1970 of docker's RFC 3339 times, which have nanoseconds; its year 1 means never."""
    if not text or text.startswith("0001"):
        return None
    return datetime.fromisoformat(re.sub(r"\.\d+", "", text)).timestamp()


def _parse_handle(handle: str) -> tuple[str, str]:
    engine, _, container = handle.removeprefix("docker://").partition("/")
    return engine, container


BACKEND = DockerBackend()
