"""A Kubernetes cluster with the KubeRay operator, through kubectl: one RayJob a launch, on a Ray cluster of its own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote, unquote

from ftl_config.errors import FtlError
from ftl_launcher.accelerators import Vendor
from ftl_launcher.backends.program import call, last_line
from ftl_launcher.backends.protocol import BackendState, Offer, Request
from ftl_launcher.backends.ray_http import short_message
from ftl_launcher.backends.refusals import unsuitable
from ftl_launcher.backends.reopened import reopened_lines
from ftl_launcher.idle import command_lines
from ftl_launcher.images import flavour_for, image_of
from ftl_launcher.plan import RunPlan
from ftl_launcher.render import Pods, render_ray_manifest
from ftl_launcher.states import RunState

_GPUS = {Vendor.NVIDIA: "nvidia.com/gpu", Vendor.AMD: "amd.com/gpu", Vendor.CPU: None}
_CLAIM = "pvc://"
_MAX_NAME = 47
"""KubeRay puts its own words behind the name of a RayJob."""

_DEPLOYMENT_STATES = {
    "": RunState.PENDING,
    "Initializing": RunState.PENDING,
    "Suspended": RunState.PENDING,
    "Suspending": RunState.RECOVERING,
    "Retrying": RunState.RECOVERING,
    "Failed": RunState.FAILED,
    "ValidationFailed": RunState.FAILED,
}
"""Words of the operator that say more than those of the Ray job."""
_JOB_STATES = {
    "RUNNING": RunState.RUNNING,
    "SUCCEEDED": RunState.SUCCEEDED,
    "STOPPED": RunState.CANCELLED,
    "FAILED": RunState.FAILED,
}

_INSTALL = "https://kubernetes.io/docs/tasks/tools says how; `ftl render` works without it"
_HINTS = {
    "no matches for kind": "install the KubeRay operator, 1.5.1 or newer: https://docs.ray.io/en/latest/cluster/kubernetes",
    "AlreadyExists": "choose another --name, or remove that run: `ftl down RUN`, `kubectl delete rayjob NAME`",
    "strict decoding error": "the cluster's KubeRay is older than 1.5.1; update its operator and its CRDs",
}
"""What kubectl says -> what to do about it."""
_ACCESS = "`kubectl auth whoami` says whether this machine may talk to the cluster"

_UNSUITABLE = {
    "spot": "launch.spot: Kubernetes rents nothing; choose nodes by launch.instance_type or a queue by launch.labels",
    "disk_tier": "launch.disk_tier: Kubernetes has no disk tiers; leave the key out",
    "network_tier": "launch.network_tier: it is the cluster's own; leave the key out",
    "price": "launch.max_hourly_cost: Kubernetes knows no prices; leave the key out",
    "ports": "launch.ports: reach a port by `kubectl port-forward`; leave the key out",
    "autostop": "launch.autostop_minutes: the pods go when the run has ended; leave the key out",
    "workdir": "launch.workdir: pods see no folder of this machine; put the files into the image, a bucket or a volume",
    "venv": "launch.venv: the image has its environment; leave the key out",
    "partition": "launch.partition: partitions are Slurm's; leave the key out",
}


@dataclass(frozen=True)
class _Run:
    """A RayJob and where it is."""

    context: str
    """Of the kubeconfig; empty for the current one."""
    namespace: str
    name: str

    @classmethod
    def of(cls, handle: str) -> _Run:
        return cls(*map(unquote, handle.removeprefix("kuberay://").split("/")))

    @property
    def handle(self) -> str:
        return "kuberay://" + "/".join(quote(part, safe="") for part in (self.context, self.namespace, self.name))

    def argv(self, *arguments: str) -> list[str]:
        context = [f"--context={self.context}"] if self.context else []
        return ["kubectl", *context, f"--namespace={self.namespace}", *arguments]

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl answers; what it refuses is an error."""
        done = call(self.argv(*arguments), stdin=stdin, install=_INSTALL)
        if done.returncode:
            hint = next((hint for words, hint in _HINTS.items() if words in done.stderr), _ACCESS)
            raise FtlError(f"kubectl {arguments[0]} {self.name}: {last_line(done.stderr)}", hint=hint)
        return done.stdout


class KubeRayBackend:
    """Sends a RayJob; KubeRay makes the Ray cluster, runs the job on it, and takes the cluster away."""

    name = "kuberay"
    state_needs_import = False

    def refusals(self, plan: RunPlan) -> list[str]:
        found = unsuitable(_asked(plan), _UNSUITABLE)
        if len({accelerator.count for accelerator in plan.resources.accelerators}) > 1:
            found.append("launch.accelerators: a pod asks for one number of GPUs; give every candidate the same")
        sources = [source for source in plan.mounts.values() if not source.startswith(_CLAIM)]
        if sources:
            found.append(f"launch.file_mounts: {sources[0]}: name a PersistentVolumeClaim, as in /data: pvc://my-claim")
        if "://" not in plan.checkpoint_uri and not any(_is_below(plan.checkpoint_uri, path) for path in plan.mounts):
            found.append(
                f"checkpoints would stay in a pod ({plan.checkpoint_uri}) and vanish with it: set checkpoint: "
                "s3://bucket/prefix, launch.checkpoint_bucket, or a path on a volume of launch.file_mounts"
            )
        if len(plan.submission_id) > _MAX_NAME:
            found.append(f"--name: {plan.submission_id} is longer than the {_MAX_NAME} characters that KubeRay takes")
        return found

    def request(self, plan: RunPlan) -> Request:
        import yaml

        text = render_ray_manifest(plan, _pods(plan))
        context, namespace = _current_place(plan.placement.region)
        run = _Run(context, plan.placement.namespace or namespace, plan.submission_id)
        return Request(
            backend=self.name,
            name=plan.name,
            handle=run.handle,
            filename="rayjob.yaml",
            text=text,
            payload=yaml.safe_load(text),
            plan=plan,
        )

    def offer(self, request: Request, secrets: Mapping[str, str]) -> Offer | None:
        """Nothing is rented, but the API server says now what it would refuse."""
        _Run.of(request.handle).kubectl("create", "--dry-run=server", "--filename=-", stdin=request.text)
        return None

    def submit(self, request: Request, secrets: Mapping[str, str]) -> None:
        # The Secret comes first: pods that wait for one would hold their GPUs. The RayJob takes it along when it goes.
        run = _Run.of(request.handle)
        if secrets:
            run.kubectl("create", "--filename=-", stdin=json.dumps(_secret(request.plan, secrets)))
        try:
            uid = run.kubectl("create", "--filename=-", "--output=jsonpath={.metadata.uid}", stdin=request.text)
        except FtlError:
            if secrets:
                run.kubectl("delete", "secret", run.name, "--ignore-not-found")
            raise
        if secrets:
            owner = {"apiVersion": "ray.io/v1", "kind": "RayJob", "name": run.name, "uid": uid}
            patch = json.dumps({"metadata": {"ownerReferences": [owner]}})
            run.kubectl("patch", "secret", run.name, f"--patch={patch}")

    def state(self, handle: str) -> BackendState:
        run = _Run.of(handle)
        status = _status(run)
        if status is None:
            return BackendState(RunState.LOST, message=f"namespace {run.namespace} has no RayJob {run.name}")
        return _state(status)

    def logs(self, handle: str, *, follow: bool) -> Iterator[str | None]:
        """The log of KubeRay's submitter, which is the job's and stays until the RayJob is deleted."""
        run = _Run.of(handle)
        argv = run.argv("logs", f"job/{run.name}", *(["--follow"] if follow else []))
        return reopened_lines(
            # What kubectl itself says (no pod yet) is no line of the run's.
            lambda: command_lines(argv, stderr=subprocess.DEVNULL),
            lambda: self.state(handle).state.is_terminal,
            follow=follow,
        )

    def cancel(self, handle: str) -> None:
        run = _Run.of(handle)
        status = _status(run)
        if status is None or _state(status).state.is_terminal:
            return
        if status.get("jobStatus") == "RUNNING":
            # Ray sends the runner SIGTERM, as it does on any cluster.
            run.kubectl("exec", _pod(run, status, 0), "--", "ray", "job", "stop", "--no-wait", run.name)
        else:  # nothing to save yet: the operator ends it, and frees what it has got so far
            run.kubectl("patch", "rayjob", run.name, "--type=merge", '--patch={"spec":{"activeDeadlineSeconds":1}}')

    def down(self, handle: str) -> None:
        run = _Run.of(handle)
        run.kubectl("delete", f"rayjob/{run.name}", f"secret/{run.name}", "--ignore-not-found", "--wait=false")

    def shell(self, handle: str, rank: int) -> list[str]:
        run = _Run.of(handle)
        status = _status(run) or {}
        return run.argv("exec", "--stdin", "--tty", _pod(run, status, rank), "--", "bash")

    def dashboard(self, handle: str) -> str | None:
        return None  # inside the cluster only: `kubectl port-forward`


def _asked(plan: RunPlan) -> dict[str, bool]:
    resources, placement = plan.resources, plan.placement
    return {
        "spot": resources.spot,
        "disk_tier": resources.disk_tier is not None,
        "network_tier": resources.network_tier is not None,
        "price": resources.max_hourly_cost is not None,
        "ports": bool(resources.ports),
        "autostop": placement.autostop_minutes is not None,
        "workdir": plan.workdir is not None,
        "venv": plan.venv is not None,
        "partition": placement.partition is not None,
    }


def _is_below(path: str, folder: str) -> bool:
    return f"{path}/".startswith(folder.rstrip("/") + "/")


def _pods(plan: RunPlan) -> Pods:
    """Amounts that end in ``+`` are the least (requests); others are the most as well (limits)."""
    resources = plan.resources
    gpu = _GPUS[resources.vendor]
    amounts = {"cpu": _amount(resources.cpus), "memory": _amount(resources.memory_gb, "Gi")}
    if resources.disk_gb is not None:
        amounts["ephemeral-storage"] = f"{resources.disk_gb}G+"
    if gpu is not None:
        amounts[gpu] = str(resources.accelerators[0].count)
    asked = {name: amount for name, amount in amounts.items() if amount is not None}
    labels = {
        "node.kubernetes.io/instance-type": resources.instance_type,
        "topology.kubernetes.io/zone": plan.placement.zone,
    }
    return Pods(
        image=image_of(plan),
        ray_version=flavour_for(resources.vendor).locked_version("ray"),
        gpu=gpu,
        requests={name: amount.rstrip("+") for name, amount in asked.items()},
        limits={name: amount for name, amount in asked.items() if not amount.endswith("+")},
        node_selector={label: value for label, value in labels.items() if value is not None},
        claims={path: source.removeprefix(_CLAIM) for path, source in plan.mounts.items()},
    )


def _amount(value: str | None, unit: str = "") -> str | None:
    if value is None:
        return None
    return value.rstrip("+") + unit + ("+" if value.endswith("+") else "")


def _current_place(context: str | None) -> tuple[str, str]:
    """Context and namespace that kubectl would take; the default ones where there is no kubectl to ask."""
    chosen = [f"--context={context}"] if context else []
    try:
        asked = call(["kubectl", *chosen, "config", "view", "--minify", "--output=json"], install=_INSTALL)
        found = json.loads(asked.stdout)
        return found["current-context"], found["contexts"][0]["context"].get("namespace", "default")
    except (FtlError, ValueError, KeyError, IndexError, TypeError):
        return context or "", "default"


def _secret(plan: RunPlan, secrets: Mapping[str, str]) -> dict[str, Any]:
    metadata = {"name": plan.submission_id, "labels": {"ftl.run": plan.name}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(secrets)}


def _status(run: _Run) -> dict[str, Any] | None:
    """The RayJob's status; None where there is no such RayJob."""
    text = run.kubectl("get", "rayjob", run.name, "--ignore-not-found", "--output=json")
    return json.loads(text).get("status") or {} if text.strip() else None


def _state(status: Mapping[str, Any]) -> BackendState:
    deployment, job = status.get("jobDeploymentStatus", ""), status.get("jobStatus", "")
    state = _DEPLOYMENT_STATES.get(deployment) or _JOB_STATES.get(job, RunState.STARTING)
    if status.get("reason") == "DeadlineExceeded":
        state = RunState.CANCELLED  # by `cancel`: nothing else sets a deadline
    elif state.is_terminal and deployment == "Running":
        state = RunState.RUNNING  # its log is still being read
    message = status.get("message") or status.get("reason")
    code = re.search(r"exit code (\d+)", message or "")
    info = status.get("rayJobInfo", {})
    return BackendState(
        state,
        exit_code=int(code[1]) if code and state is RunState.FAILED else None,
        message=short_message(message),
        started_at=_seconds(info.get("startTime")),
        ended_at=_seconds(status.get("endTime") or info.get("endTime")) if state.is_terminal else None,
    )


def _pod(run: _Run, status: Mapping[str, Any], rank: int) -> str:
    """The pod of a rank: the head, then the workers by name."""
    group = "worker" if rank else "head"
    selector = f"ray.io/cluster={status.get('rayClusterName', '')},ray.io/node-type={group}"
    found = run.kubectl("get", "pods", f"--selector={selector}", "--output=jsonpath={.items[*].metadata.name}")
    names = sorted(found.split())
    if rank > len(names) or not names:
        raise FtlError(f"{run.name} has no pod of rank {rank} now", hint="`ftl status` says what it waits for")
    return names[max(rank - 1, 0)]


def _seconds(text: str | None) -> float | None:
    return datetime.fromisoformat(text).timestamp() if text else None


BACKEND = KubeRayBackend()
