"""RayJob manifests against KubeRay's own schema; what is asked of kubectl, and what is made of its answers."""

from __future__ import annotations

import copy
import json
import shlex
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from ftl_config.errors import FtlError
from ftl_launcher.backends.kuberay import KubeRayBackend, _Run, _state
from ftl_launcher.backends.protocol import Request
from ftl_launcher.states import RunState
from ftl_launcher.submission import make_request
from tests.unit.launcher.plans import plan_of

HERE = Path(__file__).resolve().parent
STORED = sorted((HERE.parents[1] / "golden/kuberay").glob("*.yaml"))
SCHEMA = jsonschema.Draft202012Validator(json.loads((HERE / "kuberay_rayjob.schema.json").read_text()))
CHECKPOINT = "--checkpoint=s3://bucket/runs"
HANDLE = "kuberay://arn%3Aaws%3Aeks%2Fmine/training/ftl-run-1-1"
SECRET = "planted-secret-value-7Qx"


def problems(manifest: Any) -> list[str]:
    return [f"{'.'.join(map(str, error.path))}: {error.message}" for error in SCHEMA.iter_errors(manifest)]


@pytest.mark.parametrize("path", STORED, ids=lambda path: path.stem)
def test_stored_manifests_are_what_kuberay_takes(path: Path) -> None:
    assert problems(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("place", "key", "value"),
    [
        ((), "backofLimit", 1),
        ((), "backoffLimit", "two"),
        (("rayClusterSpec",), "authOption", {"mode": "token"}),
        (("rayClusterSpec", "authOptions"), "mode", "tokens"),
        (("rayClusterSpec", "headGroupSpec", "template", "spec"), "nodeSelectors", {}),
        (("rayClusterSpec", "headGroupSpec", "template", "spec", "containers", 0, "env", 0), "values", "x"),
        (("rayClusterSpec", "workerGroupSpecs", 0), "minReplicas", None),
    ],
)
def test_the_schema_sees_what_kubectl_would_refuse(place: tuple[Any, ...], key: str, value: Any) -> None:
    manifest = copy.deepcopy(yaml.safe_load((STORED[0].parent / "nvidia-2.yaml").read_text()))
    spec = manifest["spec"]
    for step in place:
        spec = spec[step]
    spec[key] = value
    assert problems(manifest)


def request_of(*flags: str, name: str = "run-1", **changes: Any) -> Request:
    plan = plan_of("--launch.backend=kuberay", *flags, name=name)
    return make_request(replace(plan, **changes))[1]


def test_nodes_gpus_and_secrets() -> None:
    flags = ("--launch.accelerators=MI300X:4", "--launch.nodes=3", CHECKPOINT)
    cluster = request_of(*flags, secret_names=("HF_TOKEN",)).payload["spec"]["rayClusterSpec"]
    assert [group["replicas"] for group in cluster["workerGroupSpecs"]] == [2]
    container = cluster["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"amd.com/gpu": "4"}
    assert "rocm" in container["image"]
    secrets = [variable["valueFrom"] for variable in container["env"] if "value" not in variable]
    assert secrets == [{"secretKeyRef": {"name": "ftl-run-1-1", "key": "HF_TOKEN"}}]
    shared = {"name": "shared-memory", "emptyDir": {"medium": "Memory"}}
    assert shared in cluster["headGroupSpec"]["template"]["spec"]["volumes"]


def test_amounts_with_a_plus_are_no_limits() -> None:
    request = request_of("--launch.cpus=8+", "--launch.memory=64", CHECKPOINT)
    container = request.payload["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    assert container["resources"] == {"requests": {"cpu": "8", "memory": "64Gi"}, "limits": {"memory": "64Gi"}}


def test_the_entrypoint_is_one_shell_word_behind_bash() -> None:
    words = shlex.split(request_of(CHECKPOINT, "--launch.env={A: 'it''s'}").payload["spec"]["entrypoint"])
    assert words[:2] == ["bash", "-c"]
    assert words[2].endswith('exec python3 -m ftl_runner train "$config"')
    assert len(words) == 3


def test_a_path_on_a_volume_may_hold_checkpoints() -> None:
    request = request_of("--checkpoint=/data/runs", "--launch.file-mounts={/data: 'pvc://shared'}")
    volumes = request.payload["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["volumes"]
    assert {"name": "volume-1", "persistentVolumeClaim": {"claimName": "shared"}} in volumes


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (("--launch.spot",), "Kubernetes rents nothing"),
        (("--launch.workdir=.",), "no folder of this machine"),
        (("--launch.file-mounts={/data: 's3://bucket'}",), "PersistentVolumeClaim"),
        (("--launch.accelerators=[H100:8, A100:4]",), "one number of GPUs"),
        (("--launch.max-hourly-cost=3",), "no prices"),
        (("--launch.venv=/opt/x",), "the image has its environment"),
        (("--checkpoint=./here",), "vanish with it"),
    ],
)
def test_refusals(flags: tuple[str, ...], reason: str) -> None:
    with pytest.raises(FtlError, match=reason):
        request_of(CHECKPOINT, *flags)


def test_a_name_that_is_too_long() -> None:
    with pytest.raises(FtlError, match="47 characters"):
        request_of(CHECKPOINT, name="a" * 48)


def test_handles_survive_any_context_name() -> None:
    run = _Run.of(HANDLE)
    assert (run.context, run.namespace, run.name) == ("arn:aws:eks/mine", "training", "ftl-run-1-1")
    assert run.handle == HANDLE


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ({}, RunState.PENDING),
        ({"jobDeploymentStatus": "Initializing"}, RunState.PENDING),
        ({"jobDeploymentStatus": "Running", "jobStatus": "PENDING"}, RunState.STARTING),
        ({"jobDeploymentStatus": "Running", "jobStatus": "RUNNING"}, RunState.RUNNING),
        ({"jobDeploymentStatus": "Running", "jobStatus": "SUCCEEDED"}, RunState.RUNNING),
        ({"jobDeploymentStatus": "Retrying", "jobStatus": "FAILED"}, RunState.RECOVERING),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "SUCCEEDED"}, RunState.SUCCEEDED),
        ({"jobDeploymentStatus": "Complete", "jobStatus": "STOPPED"}, RunState.CANCELLED),
        ({"jobDeploymentStatus": "Failed", "reason": "DeadlineExceeded"}, RunState.CANCELLED),
        ({"jobDeploymentStatus": "ValidationFailed", "message": "too long"}, RunState.FAILED),
    ],
)
def test_states(status: dict[str, Any], state: RunState) -> None:
    assert _state(status).state is state


def test_a_failure_tells_its_exit_code_and_its_times() -> None:
    status = {
        "jobDeploymentStatus": "Failed",
        "jobStatus": "FAILED",
        "reason": "AppFailed",
        "message": "Job entrypoint command failed with exit code 20, last available logs (cut):\nline\nlast words",
        "rayJobInfo": {"startTime": "2026-01-02T03:04:05Z"},
        "endTime": "2026-01-02T03:05:05Z",
    }
    found = _state(status)
    assert (found.state, found.exit_code) == (RunState.FAILED, 20)
    assert found.message == "Job entrypoint command failed with exit code 20: last words"
    assert (found.started_at, found.ended_at) == (1767323045.0, 1767323105.0)


class Kubectl:
    """A kubectl that writes down what it was asked, and answers as told: by a word of its arguments."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        self.answer()

    def answer(self, **answers: tuple[int, str]) -> None:
        cases = "".join(
            f"  *' {word} '*) printf '%s' {shlex.quote(text)} {'>&2' if code else ''}; exit {code};;\n"
            for word, (code, text) in answers.items()
        )
        script = (
            f"#!/bin/bash\nlog={self.folder}/calls\n"
            'printf "%s\\n" "$*" >> "$log"; cat >> "$log.stdin"\n'
            f'case " $* " in\n{cases}  *) exit 0;;\nesac\n'
        )
        (self.folder / "kubectl").write_text(script)
        (self.folder / "kubectl").chmod(stat.S_IRWXU)

    @property
    def calls(self) -> list[str]:
        return [call for call in (self.folder / "calls").read_text().splitlines() if "config view" not in call]

    @property
    def stdin(self) -> str:
        return (self.folder / "calls.stdin").read_text()


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kubectl:
    return Kubectl(tmp_path, monkeypatch)


def test_values_of_secrets_go_through_standard_input(kubectl: Kubectl) -> None:
    request = replace(request_of(CHECKPOINT, secret_names=("HF_TOKEN",)), handle=HANDLE)
    KubeRayBackend().submit(request, {"HF_TOKEN": SECRET})
    place = "--context=arn:aws:eks/mine --namespace=training"
    assert [call.removeprefix(f"{place} ").split(" --patch")[0] for call in kubectl.calls] == [
        "create --filename=-",
        "create --filename=- --output=jsonpath={.metadata.uid}",
        "patch secret ftl-run-1-1",
    ]
    assert SECRET not in "\n".join(kubectl.calls) + request.text
    assert SECRET in kubectl.stdin


def test_a_refused_rayjob_leaves_no_secret_behind(kubectl: Kubectl) -> None:
    kubectl.answer(**{"--output=jsonpath={.metadata.uid}": (1, 'error: no matches for kind "RayJob"')})
    request = replace(request_of(CHECKPOINT, secret_names=("HF_TOKEN",)), handle=HANDLE)
    with pytest.raises(FtlError, match="no matches for kind") as caught:
        KubeRayBackend().submit(request, {"HF_TOKEN": SECRET})
    assert "KubeRay operator" in str(caught.value.hint)
    assert kubectl.calls[-1].endswith("delete secret ftl-run-1-1 --ignore-not-found")


def test_what_is_gone_is_lost_and_a_silent_cluster_is_an_error(kubectl: Kubectl) -> None:
    assert KubeRayBackend().state(HANDLE).state is RunState.LOST
    kubectl.answer(get=(1, "Unable to connect to the server: dial tcp: i/o timeout"))
    with pytest.raises(FtlError, match="Unable to connect"):
        KubeRayBackend().state(HANDLE)


def test_a_running_job_is_stopped_by_ray_and_a_waiting_one_by_its_deadline(kubectl: Kubectl) -> None:
    running = {"status": {"jobDeploymentStatus": "Running", "jobStatus": "RUNNING", "rayClusterName": "c"}}
    kubectl.answer(rayjob=(0, json.dumps(running)), pods=(0, "c-head-x7"))
    KubeRayBackend().cancel(HANDLE)
    assert kubectl.calls[-1].endswith("exec c-head-x7 -- ray job stop --no-wait ftl-run-1-1")
    kubectl.answer(rayjob=(0, json.dumps({"status": {"jobDeploymentStatus": "Initializing"}})))
    KubeRayBackend().cancel(HANDLE)
    assert kubectl.calls[-1].endswith('--patch={"spec":{"activeDeadlineSeconds":1}}')


def test_a_shell_on_each_rank(kubectl: Kubectl) -> None:
    kubectl.answer(rayjob=(0, '{"status": {"rayClusterName": "c"}}'), pods=(0, "c-b c-a"))
    assert KubeRayBackend().shell(HANDLE, 2)[3:] == ["exec", "--stdin", "--tty", "c-b", "--", "bash"]
    with pytest.raises(FtlError, match="no pod of rank 3"):
        KubeRayBackend().shell(HANDLE, 3)


def test_lines_of_the_log_are_those_of_the_run(kubectl: Kubectl) -> None:
    kubectl.answer(logs=(0, "one\ntwo\n"), rayjob=(0, '{"status": {"jobDeploymentStatus": "Failed"}}'))
    lines = KubeRayBackend().logs(HANDLE, follow=True)
    assert [line for line in lines if line is not None] == ["one", "two"]
    kubectl.answer(logs=(1, "Error from server (NotFound): jobs.batch not found"))
    assert [line for line in KubeRayBackend().logs(HANDLE, follow=False) if line is not None] == []


def test_without_kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    request = request_of(CHECKPOINT)
    assert request.handle == "kuberay:///default/ftl-run-1-1"
    with pytest.raises(FtlError, match="kubectl is not installed") as caught:
        KubeRayBackend().submit(request, {})
    assert caught.value.hint
