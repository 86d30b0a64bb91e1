"""Rented and shared machines through SkyPilot's SDK and API server."""

from __future__ import annotations

import secrets as random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ftl_config.errors import FtlError
from ftl_launcher.accelerators import Vendor
from ftl_launcher.backends.protocol import BackendState, Offer, Request
from ftl_launcher.backends.refusals import vanishing_checkpoints
from ftl_launcher.backends.skypilot_logs import stream_lines
from ftl_launcher.backends.skypilot_offer import ask_for_offer, in_words
from ftl_launcher.backends.skypilot_requests import launch_on_its_way
from ftl_launcher.clouds import Cloud, Feature, find_cloud
from ftl_launcher.plan import RunPlan
from ftl_launcher.render import render_skypilot_task
from ftl_launcher.states import RunState
from ftl_launcher.upload import sent_folder

_STATES = {
    "INIT": RunState.PENDING,
    "PENDING": RunState.PENDING,
    "SUBMITTED": RunState.PENDING,
    "STARTING": RunState.STARTING,
    "SETTING_UP": RunState.STARTING,
    "RUNNING": RunState.RUNNING,
    "WINDING_DOWN": RunState.RUNNING,
    "RECOVERING": RunState.RECOVERING,
    "CANCELLING": RunState.CANCELLING,
    "CANCELLED": RunState.CANCELLED,
    "SUCCEEDED": RunState.SUCCEEDED,
}
"""SkyPilot's words; everything else that it says begins with FAILED."""

_WITHOUT_MACHINES = (RunState.PENDING, RunState.STARTING, RunState.RECOVERING, RunState.LOST)

_DOCKER_OPTIONS = ["--ipc=host", "--ulimit=memlock=-1", "--ulimit=stack=67108864"]
_ROCM_OPTIONS = ["--device=/dev/kfd", "--device=/dev/dri", "--group-add=video", "--security-opt=seccomp=unconfined"]

_JOB = "job"
_CLUSTER = "cluster"


class SkyPilotBackend:
    """A managed job, which SkyPilot recovers; or a cluster of its own where autostop is asked for."""

    name = "skypilot"
    state_needs_import = True

    def refusals(self, plan: RunPlan) -> list[str]:
        clouds = [find_cloud(name) for name in plan.placement.clouds]
        found = [
            f"{cloud.title}: no {feature}: {cloud.refusals[feature]}"
            for cloud in clouds
            for feature in _wanted(plan)
            if feature in cloud.refusals
        ]
        found += vanishing_checkpoints(plan)
        if plan.placement.managed and plan.placement.autostop_minutes is not None:
            found.append("launch.autostop_minutes with launch.managed: a managed job frees its machines by itself")
        if plan.resources.spot and not plan.placement.managed:
            found.append(
                "launch.spot without a managed job (launch.autostop_minutes, or launch.managed: false): nobody would "
                "start it again once its machines are taken; leave those keys out"
            )
        if plan.placement.namespace is not None:
            found.append("launch.namespace: SkyPilot takes the namespace of the kubeconfig context; set it there")
        if plan.placement.partition is not None and plan.placement.clouds != ("slurm",):
            found.append("launch.partition: partitions are Slurm's; leave the key out or use --cloud slurm")
        return found

    def request(self, plan: RunPlan) -> Request:
        import yaml

        managed = plan.placement.managed
        clouds = [find_cloud(name) for name in plan.placement.clouds]
        text = render_skypilot_task(
            plan,
            candidates=_candidates(plan, clouds),
            env={**_interconnect(plan, clouds), **plan.env},
            overrides=_overrides(plan, clouds),
            managed=managed,
        )
        return Request(
            backend=self.name,
            name=plan.name,
            handle=f"skypilot://{_JOB if managed else _CLUSTER}/{plan.submission_id}",
            filename="task.yaml",
            text=text,
            payload=yaml.safe_load(text),
            plan=plan,
        )

    def offer(self, request: Request, secrets: Mapping[str, str]) -> Offer | None:
        clouds = [find_cloud(name) for name in request.plan.placement.clouds]
        if clouds and not any(cloud.is_rented for cloud in clouds):
            return None
        return ask_for_offer(_import_sky(), request, secrets)

    def submit(self, request: Request, secrets: Mapping[str, str]) -> None:
        sky = _import_sky()
        kind, submission_id = _parse_handle(request.handle)
        values = {**secrets, "RAY_AUTH_TOKEN": random.token_hex(32)}
        if _asked(_is_known, sky, request.handle):
            return
        try:
            task = sky.Task.from_yaml_config(_payload(request), secrets_overrides=list(values.items()))
            if kind == _JOB:
                sky.stream_and_get(sky.jobs.launch(task, name=submission_id))
            else:
                sky.stream_and_get(sky.launch(task, cluster_name=submission_id, down=_ends_by_itself(request.plan)))
        except Exception as error:  # SkyPilot raises dozens of classes; all of them mean that it did not take the run
            left = _take_down(sky, request) if kind == _CLUSTER else ""
            raise FtlError(
                f"SkyPilot did not take the run: {in_words(error)}{left}",
                hint="`sky check` says which clouds it can use, `sky api logs` what it tried",
            ) from error

    def state(self, handle: str) -> BackendState:
        sky = _import_sky()
        kind, submission_id = _parse_handle(handle)
        job = _asked(_managed_job if kind == _JOB else _cluster_job, sky, submission_id)
        if job is None and _asked(launch_on_its_way, sky, submission_id):
            return BackendState(RunState.PENDING)
        if job is None:
            return BackendState(RunState.LOST, message=f"SkyPilot knows no run {submission_id}")
        word = str(getattr(job["status"], "value", job["status"]))
        return BackendState(
            state=_STATES.get(word, RunState.FAILED),
            message=job.get("failure_reason"),
            started_at=job.get("start_at"),
            ended_at=job.get("end_at"),
        )

    def logs(self, handle: str, *, follow: bool) -> Iterator[str | None]:
        sky = _import_sky()
        kind, submission_id = _parse_handle(handle)
        if not follow and self.state(handle).state in _WITHOUT_MACHINES:
            return iter(())  # SkyPilot would wait for them, also where it is not to follow

        def open_stream() -> Iterable[str | None]:
            chunks: Iterable[str | None] = (
                sky.jobs.tail_logs(name=submission_id, follow=follow, preload_content=False)
                if kind == _JOB
                else sky.tail_logs(submission_id, job_id=None, follow=follow, preload_content=False)
            )
            return chunks

        return stream_lines(open_stream, lambda: self.state(handle).state.is_terminal, follow=follow)

    def cancel(self, handle: str) -> None:
        sky = _import_sky()
        kind, submission_id = _parse_handle(handle)
        _asked(_is_known, sky, handle)  # a launch on its way is waited for: only what is there can be cancelled
        try:
            if kind == _JOB:
                sky.get(sky.jobs.cancel(name=submission_id))
            else:
                sky.get(sky.cancel(submission_id, all=True))
        except Exception as error:
            raise FtlError(f"SkyPilot did not cancel {submission_id}: {in_words(error)}") from error

    def down(self, handle: str) -> None:
        sky = _import_sky()
        kind, submission_id = _parse_handle(handle)
        if kind == _JOB:
            if (job := _asked(_managed_job, sky, submission_id)) and not job["status"].is_terminal():
                self.cancel(handle)  # a managed job's machines go with it
        elif _asked(_clusters, sky, submission_id):
            _asked(lambda sky, name: sky.stream_and_get(sky.down(name)), sky, submission_id)

    def shell(self, handle: str, rank: int) -> list[str]:
        sky = _import_sky()
        kind, submission_id = _parse_handle(handle)
        cluster: str | None = submission_id
        if kind == _JOB:
            cluster = (_asked(_managed_job, sky, submission_id) or {}).get("current_cluster_name")
        if not cluster:
            raise FtlError(f"{submission_id} has no machines now", hint="`ftl status` says what it waits for")
        # SkyPilot writes these names to ~/.ssh/config.
        return ["ssh", "-t", cluster if rank == 0 else f"{cluster}-worker{rank}"]

    def dashboard(self, handle: str) -> str | None:
        sky = _import_sky()
        kind, submission_id = _parse_handle(handle)
        server = _asked(lambda sky, _: sky.server.common.get_server_url(), sky, submission_id)
        if kind == _CLUSTER:
            return f"{server}/dashboard/clusters/{submission_id}"
        job = _asked(_managed_job, sky, submission_id)
        return f"{server}/dashboard/jobs/{job['job_id']}" if job else f"{server}/dashboard/jobs"


def _take_down(sky: Any, request: Request) -> str:
    """Machines of a cluster that did not come up, which SkyPilot leaves running; what to say where that fails."""
    try:
        if _clusters(sky, request.plan.submission_id):
            sky.get(sky.down(request.plan.submission_id))
    except Exception as error:  # as above
        return f"\nIts machines may still run, and cost, until `ftl down {request.name}`: {in_words(error)}"
    return ""


def _payload(request: Request) -> dict[str, Any]:
    folder = sent_folder(request.plan)
    return {**request.payload, **({"workdir": folder} if folder else {})}


def for_cloud(plan: RunPlan, cloud: str) -> RunPlan:
    """The plan as it reads for one of its clouds."""
    return replace(plan, placement=replace(plan.placement, clouds=(cloud,)))


def _wanted(plan: RunPlan) -> list[Feature]:
    """The features that a plan asks for."""
    resources, placement = plan.resources, plan.placement
    fast_network = resources.network_tier == "best"
    asked = {
        Feature.SPOT: resources.spot,
        Feature.IMAGE: plan.image is not None,
        Feature.MULTI_NODE: plan.num_nodes > 1,
        Feature.AUTOSTOP: placement.autostop_minutes is not None and not placement.autodown,
        # SkyPilot's controller of managed jobs asks for it, in case it dies before the machines.
        Feature.AUTODOWN: placement.managed or (placement.autostop_minutes is not None and placement.autodown),
        Feature.AMD: resources.vendor is Vendor.AMD,
        Feature.DISK_TIER: resources.disk_tier not in (None, "best"),  # best is what there is, on every cloud
        Feature.ULTRA_DISK: resources.disk_tier == "ultra",
        Feature.NETWORK_TIER: fast_network,
        Feature.NETWORK_OF_PART: fast_network and any(one.count < 8 for one in resources.accelerators),
        Feature.PORTS: bool(resources.ports),
        Feature.STORAGE_MOUNT: bool(plan.mount_modes),
    }
    return [feature for feature, wanted in asked.items() if wanted]


def _candidates(plan: RunPlan, clouds: list[Cloud]) -> list[Mapping[str, str]]:
    """Every cloud with every accelerator, in the user's order; without a cloud SkyPilot takes the cheapest."""
    infras: list[dict[str, str]] = [{"infra": _infra(plan, cloud)} for cloud in clouds] or [{}]
    accelerators: list[dict[str, str]] = [{"accelerators": str(one)} for one in plan.resources.accelerators] or [{}]
    return [{**infra, **accelerator} for infra in infras for accelerator in accelerators]


def _ends_by_itself(plan: RunPlan) -> bool:
    """A cluster without autostop is taken down after the run where SkyPilot can; elsewhere it waits for `ftl down`."""
    clouds = [find_cloud(name) for name in plan.placement.clouds]
    can = plan.placement.clouds != ("slurm",) and not any(Feature.AUTODOWN in cloud.refusals for cloud in clouds)
    return can and plan.placement.autostop_minutes is None


def _infra(plan: RunPlan, cloud: Cloud) -> str:
    # SkyPilot calls a Slurm cluster a region and its partition a zone.
    zone = plan.placement.partition if cloud.name == "slurm" and plan.placement.partition else plan.placement.zone
    parts = [cloud.infra, plan.placement.region, zone]
    while parts[-1] is None:
        parts.pop()
    return "/".join(part or "*" for part in parts)


def _interconnect(plan: RunPlan, clouds: list[Cloud]) -> dict[str, str]:
    if plan.num_nodes == 1 or len(clouds) != 1:
        return {}
    return dict(clouds[0].multi_node_env.get(plan.resources.vendor, {}))


def _overrides(plan: RunPlan, clouds: list[Cloud]) -> dict[str, Any]:
    """SkyPilot settings that a task may carry: its cloud's network, and options of `docker run` on a VM."""
    overrides: dict[str, Any] = {}
    if plan.num_nodes > 1 and len(clouds) == 1 and plan.resources.accelerators:
        overrides.update(clouds[0].multi_node_config)
    if plan.image is not None and not all(cloud.is_container for cloud in clouds):
        amd = plan.resources.vendor is Vendor.AMD
        overrides["docker"] = {"run_options": _DOCKER_OPTIONS + (_ROCM_OPTIONS if amd else [])}
    return overrides


def _import_sky() -> Any:
    try:
        import sky
        import sky.jobs
    except ImportError as error:
        raise FtlError(
            f"SkyPilot is not installed here ({error})", hint="pip install 'ftl-tune[sky]', then `sky check`"
        ) from error
    return sky


def _is_known(sky: Any, handle: str) -> bool:
    """Whether SkyPilot has this launch already; one that it is taking at the moment is waited for."""
    kind, submission_id = _parse_handle(handle)
    if request_id := launch_on_its_way(sky, submission_id):
        sky.get(request_id)
    return (_managed_job if kind == _JOB else _cluster_job)(sky, submission_id) is not None


def _managed_job(sky: Any, name: str) -> dict[str, Any] | None:
    jobs = sky.get(sky.jobs.queue_v2(refresh=False, name_match=name))[0]
    matching = [job.model_dump() for job in jobs if job.job_name == name]
    return max(matching, key=lambda job: job["job_id"], default=None)


def _clusters(sky: Any, name: str) -> list[Any]:
    found: list[Any] = sky.get(sky.status(cluster_names=[name]))
    return found


def _asked(question: Callable[[Any, str], Any], sky: Any, name: str) -> Any:
    """An answer of SkyPilot's, or its error as ours."""
    try:
        return question(sky, name)
    except Exception as error:  # SkyPilot raises dozens of classes
        raise FtlError(f"SkyPilot cannot be asked about {name}: {in_words(error)}") from error


def _cluster_job(sky: Any, cluster: str) -> dict[str, Any] | None:
    if not _clusters(sky, cluster):
        return None
    jobs = [job.model_dump() for job in sky.get(sky.queue(cluster))]
    return max(jobs, key=lambda job: job["job_id"], default=None)


def _parse_handle(handle: str) -> tuple[str, str]:
    kind, _, submission_id = handle.removeprefix("skypilot://").partition("/")
    return kind, submission_id


BACKEND = SkyPilotBackend()
