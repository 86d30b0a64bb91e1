"""What a RayJob starts, run here as KubeRay would run it: no Kubernetes, but a real Ray and real processes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ftl_config.load import load_text
from ftl_launcher.backends.protocol import Request
from ftl_launcher.plan import HostFacts, make_plan
from ftl_launcher.submission import make_request
from tests.services import test_ray_backend
from tests.services.ray_cluster import STANDIN, TOKEN
from tests.services.test_ray_backend import CONFIG

pytestmark = [pytest.mark.service, pytest.mark.slow, pytest.mark.timeout(600)]

cluster = test_ray_backend.cluster
PROMPT = """it's "quoted", costs $$5 or $HOME, \\ and $(date)"""


def request_of(*flags: str) -> Request:
    loaded = load_text(CONFIG, ["--checkpoint=s3://bucket/runs", "--launch.backend=kuberay", *flags], name="config.yml")
    return make_request(make_plan(loaded, "run-1", HostFacts(workdir="/"), ftl_version="1"))[1]


def container_of(request: Request) -> dict[str, Any]:
    container: dict[str, Any] = request.payload["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"][
        "containers"
    ][0]
    return container


def submit(address: str, job: str, request: Request, entrypoint: str, **more: str) -> str:
    """The log, after the command line of KubeRay's submitter (BuildJobSubmitCommand of its v1.7.0).

    The variables, which are those of the pods there, are the job's here.
    """
    env = {variable["name"]: variable["value"].replace("$$", "$") for variable in container_of(request)["env"]}
    script = (
        f"if ! ray job status --address {address} {job} >/dev/null 2>&1 ; then ray job submit --address {address} "
        f"--no-wait --runtime-env-json {shlex.quote(json.dumps({'env_vars': {**env, **more}}))} "
        # Kubernetes makes one dollar of two in the arguments of a container.
        f"--submission-id {job} -- {entrypoint.strip().replace('$$', '$')} ; fi ; "
        f"ray job logs --address {address} --follow {job}"
    )
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell = {**os.environ, "PATH": path, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    shell.pop("RAY_ADDRESS", None)
    done = subprocess.run(["/bin/bash", "-ce", "--", script], env=shell, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_entrypoint_reaches_the_runner(cluster: str, tmp_path: Path) -> None:
    request = request_of("--launch.env={STANDIN_PRINT_ENV: GREETING, GREETING: 'a $$ and $(HOME)'}")
    entrypoint = request.payload["spec"]["entrypoint"]
    log = submit(cluster, "ftl-run-1-1", request, entrypoint, FTL_CHECKPOINT_URI=str(tmp_path / "checkpoints"))
    assert '"status":"succeeded"' in log
    assert "GREETING=a $$ and $(HOME)" in log


def test_the_config_arrives_as_it_was(cluster: str) -> None:
    request = request_of(f"--default-system-message={json.dumps(PROMPT)}")
    printed = request.payload["spec"]["entrypoint"].replace("exec python3 -m ftl_runner train", "cat")
    assert "costs $$5 or $HOME" in request.plan.config_yaml
    assert request.plan.config_yaml in submit(cluster, "ftl-run-1-2", request, printed)


@pytest.mark.skipif(
    subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode != 0,
    reason="needs a namespace of its own: the hook looks at all processes",
)
def test_a_pod_that_is_taken_away_waits_for_the_checkpoint(tmp_path: Path) -> None:
    """The hook on a node with the runner and a process titled as Ray titles a training worker."""
    hook = container_of(request_of())["lifecycle"]["preStop"]["exec"]["command"]
    (tmp_path / "config.yml").write_text(CONFIG)
    (tmp_path / "hook.sh").write_text(hook[2])
    script = """
        python3 -m ftl_runner train config.yml > log & runner=$!
        (trap 'exit 0' TERM; exec -a 'ray::RayTrainWorker.execute' sleep 6) &
        until grep -q '"step":3' log; do sleep 0.1; done
        began=$SECONDS; bash hook.sh; echo "hook took $((SECONDS - began)) s"
        wait $runner; echo "runner ended with $?"
        bash hook.sh; echo "nothing left to wait for"
    """
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(STANDIN),
        "STANDIN_STEPS": "4000",
        "FTL_CHECKPOINT_URI": str(tmp_path / "checkpoints"),
    }
    argv = ["unshare", "--pid", "--fork", "--mount-proc", "bash", "-c", script]
    done = subprocess.run(argv, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert "runner ended with 20" in done.stdout, done.stdout + done.stderr
    assert "nothing left to wait for" in done.stdout
    took = int(done.stdout.split("hook took ")[1].split()[0])
    assert 2 <= took <= 20, "it waits for the training workers, not only for the runner"
    assert (tmp_path / "checkpoints/step").exists()
