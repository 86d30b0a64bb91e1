"""The kuberay backend against a real Kubernetes API server that has KubeRay's CRDs; no operator and no node is needed.

Set FTL_TEST_KUBERAY_CONTEXT to a context of the kubeconfig whose namespace may be used. The operator's part, the status
of a RayJob, is written by the test: run it where no operator is.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ftl_config.errors import FtlError
from ftl_launcher.backends.kuberay import KubeRayBackend, _Run
from ftl_launcher.states import RunState
from tests.services.test_kuberay import request_of
from tests.services.test_ray_backend import SECRET

CONTEXT = os.environ.get("FTL_TEST_KUBERAY_CONTEXT", "")
STORED = sorted((Path(__file__).resolve().parents[1] / "golden/kuberay").glob("*.yaml"))
pytestmark = [
    pytest.mark.service,
    pytest.mark.skipif(not CONTEXT, reason="FTL_TEST_KUBERAY_CONTEXT names no cluster"),
]


def kubectl(*arguments: str) -> str:
    argv = ["kubectl", f"--context={CONTEXT}", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def put_status(run: _Run, **status: Any) -> None:
    patch = json.dumps({"status": status})
    place = f"--namespace={run.namespace}"
    kubectl(place, "patch", "rayjob", run.name, "--subresource=status", "--type=merge", f"--patch={patch}")


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_the_server_takes_every_stored_manifest(path: Path) -> None:
    text = path.read_text().replace('  namespace: "training"\n', "")
    argv = ["kubectl", f"--context={CONTEXT}", "create", "--dry-run=server", "--filename=-"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_from_submission_to_removal() -> None:
    backend = KubeRayBackend()
    request = request_of(f"--launch.region={CONTEXT}", "--launch.accelerators=H100:8")
    request = replace(request, plan=replace(request.plan, secret_names=("HF_TOKEN",)))
    run = _Run.of(request.handle)
    assert run.context == CONTEXT
    assert backend.state(run.handle).state is RunState.LOST
    try:
        assert backend.offer(request, {}) is None
        backend.submit(request, {"HF_TOKEN": SECRET})
        place = f"--namespace={run.namespace}"
        owners = json.loads(kubectl(place, "get", "secret", run.name, "--output=json"))["metadata"]["ownerReferences"]
        uid = kubectl(place, "get", "rayjob", run.name, "--output=jsonpath={.metadata.uid}")
        assert [(owner["kind"], owner["uid"]) for owner in owners] == [("RayJob", uid)]
        assert SECRET not in kubectl(place, "get", "rayjob", run.name, "--output=json")
        with pytest.raises(FtlError, match="already exists") as caught:
            backend.submit(request, {})
        assert "--name" in str(caught.value.hint)

        assert backend.state(run.handle).state is RunState.PENDING
        put_status(run, jobDeploymentStatus="Running", jobStatus="RUNNING", rayClusterName="c")
        assert backend.state(run.handle).state is RunState.RUNNING
        put_status(run, jobDeploymentStatus="Initializing", jobStatus="")
        backend.cancel(run.handle)
        deadline = kubectl(place, "get", "rayjob", run.name, "--output=jsonpath={.spec.activeDeadlineSeconds}")
        assert deadline == "1"
        put_status(run, jobDeploymentStatus="Failed", reason="DeadlineExceeded")
        assert backend.state(run.handle).state is RunState.CANCELLED
    finally:
        backend.down(run.handle)
    assert backend.state(run.handle).state is RunState.LOST
    backend.down(run.handle)
