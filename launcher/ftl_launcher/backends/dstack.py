"""Machines of clouds and of one's own through dstack's server, by its Python API."""

from __future__ import annotations

import math
import os
import re
import secrets as random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from ftl_config.errors import FtlError
from ftl_config.protocol import Env
from ftl_launcher.accelerators import Accelerator
from ftl_launcher.backends.dstack_logs import tail_run
from ftl_launcher.backends.protocol import BackendState, Offer, Request
from ftl_launcher.backends.refusals import unsuitable, vanishing_checkpoints
from ftl_launcher.clouds import ALIASES
from ftl_launcher.images import image_of
from ftl_launcher.plan import RunPlan
from ftl_launcher.render import render_dstack_task
from ftl_launcher.states import RunState
from ftl_launcher.upload import sent_folder

T = TypeVar("T")

_STATES = {
    "pending": RunState.RECOVERING,  # waits for its next try
    "submitted": RunState.PENDING,
    "provisioning": RunState.STARTING,
    "running": RunState.RUNNING,
    "terminating": RunState.RUNNING,
    "terminated": RunState.CANCELLED,
    "failed": RunState.FAILED,
    "done": RunState.SUCCEEDED,
}

_WAITING = (RunState.PENDING, RunState.RECOVERING)

_MAX_NAME = 41
_FOLDER = "/workspace/run"
_SHARED_MEMORY = "16GB"
"""A limit, not a reservation; Docker's own 64 MB would not do for the collectives of a few GPUs."""
_RETRY = {"on_events": ["no-capacity", "interruption"], "duration": "1d"}
"""Not ``error``: dstack would start again, without counting, what can only fail again."""
_LIMIT_MARGIN_S = 900
"""The run keeps to its limit itself, after saving; dstack's comes later, for a run that does not."""

_UNSUITABLE = {
    "image": "launch.image: dstack's machines pull an image from a registry: push one (`ftl images build`), name it",
    "restarts": "launch.recovery.max_restarts_on_errors: dstack does not count restarts; leave the key out",
    "disk_tier": "launch.disk_tier: dstack has no disk tiers; leave the key out",
    "network_tier": "launch.network_tier: dstack knows none; choose machines by launch.instance_type",
    "mounts": "launch.file_mounts: use launch.workdir (up to 2 MB) or bucket URLs",
    "venv": "launch.venv: the image has its environment; leave the key out",
    "namespace": "launch.namespace: DSTACK_PROJECT names dstack's project; leave the key out",
    "partition": "launch.partition: partitions are Slurm's; leave the key out",
}


class DstackBackend:
    """One task a launch; the same script as on SkyPilot's nodes starts Ray over them."""

    name = "dstack"
    state_needs_import = True

    def refusals(self, plan: RunPlan) -> list[str]:
        found = unsuitable(_asked(plan), _UNSUITABLE)
        if len({accelerator.count for accelerator in plan.resources.accelerators}) > 1:
            found.append("launch.accelerators: dstack takes one number of GPUs; give every candidate the same")
        found += vanishing_checkpoints(plan)
        if len(plan.submission_id) > _MAX_NAME:
            found.append(f"--name: {plan.submission_id} is longer than the {_MAX_NAME} characters that dstack takes")
        return found

    def request(self, plan: RunPlan) -> Request:
        import yaml

        text = render_dstack_task(
            plan, image=image_of(plan), resources=_resources(plan), options=_options(plan), folder=_FOLDER
        )
        return Request(
            backend=self.name,
            name=plan.name,
            # Without a name it is the default project of dstack's own settings.
            handle=f"dstack://{os.environ.get('DSTACK_PROJECT', '')}/{plan.submission_id}",
            filename="task.dstack.yml",
            text=text,
            payload=yaml.safe_load(text),
            plan=plan,
        )

    def offer(self, request: Request, secrets: Mapping[str, str]) -> Offer | None:
        client, name = _open(request.handle)
        task = _task(request, secrets)
        run_plan = _asked_of_dstack(name, lambda: client.runs.get_run_plan(task, max_offers=1))
        offers = run_plan.job_plans[0].offers
        if not offers:
            raise FtlError(
                "dstack has no machine that fits this run",
                hint="`dstack offer` lists what it has; `dstack fleet` whether there is a fleet that may rent it",
            )
        first = offers[0]
        if first.backend.value == "remote":  # a fleet of machines that are there already
            return None
        where = f"{first.backend.value} ({first.instance.name}, {first.region})"
        return Offer(where, first.price * request.plan.num_nodes if first.price else None)

    def submit(self, request: Request, secrets: Mapping[str, str]) -> None:
        client, name = _open(request.handle)
        if _asked_of_dstack(name, lambda: client.runs.get(name)) is not None:
            raise FtlError(f"dstack has a run {name} already", hint="choose another --name")
        task = _task(request, secrets)
        _asked_of_dstack(name, lambda: client.runs.apply_configuration(task, reserve_ports=False))

    def state(self, handle: str) -> BackendState:
        client, name = _open(handle)
        run = _asked_of_dstack(name, lambda: client.runs.get(name))
        return _state(_model(run)) if run else BackendState(RunState.LOST, message=f"dstack knows no run {name}")

    def logs(self, handle: str, *, follow: bool) -> Iterator[str | None]:
        client, name = _open(handle)
        from dstack._internal.server.schemas.logs import PollLogsRequest  # an ImportError is told by _open

        def ask() -> Any:
            run = _asked_of_dstack(name, lambda: client.runs.get(name))
            return _model(run) if run else None

        def poll(**page: Any) -> Any:
            body = PollLogsRequest(run_name=name, descending=False, **page)
            return _asked_of_dstack(name, lambda: client.client.logs.poll(client.project, body))

        return tail_run(ask, poll, follow=follow)

    def cancel(self, handle: str) -> None:
        _stop(handle, abort=False)

    def down(self, handle: str) -> None:
        _stop(handle, abort=True)

    def shell(self, handle: str, rank: int) -> list[str]:
        _, name = _parse_handle(handle)
        host = name if rank == 0 else f"{name}-{rank}-0"
        raise FtlError(
            "dstack opens a shell through a connection of its own",
            hint=f"`dstack attach {name} --job {rank}` in one terminal, `ssh {host}` in another",
        )

    def dashboard(self, handle: str) -> str | None:
        client, name = _open(handle)
        run = _asked_of_dstack(name, lambda: client.runs.get(name))
        page = f"{client.client.base_url}/projects/{client.project}/runs"
        return f"{page}/{_model(run).id}" if run else page


def _asked(plan: RunPlan) -> dict[str, bool]:
    return {
        "image": plan.image is None,
        "restarts": plan.recovery.max_restarts_on_errors > 0,
        "disk_tier": plan.resources.disk_tier is not None,
        "network_tier": plan.resources.network_tier is not None,
        "mounts": bool(plan.mounts),
        "venv": plan.venv is not None,
        "namespace": plan.placement.namespace is not None,
        "partition": plan.placement.partition is not None,
    }


def _resources(plan: RunPlan) -> dict[str, Any]:
    resources = plan.resources
    wanted = {
        "gpu": _gpu(resources.accelerators),
        "cpu": _at_least(resources.cpus),
        "memory": _at_least(resources.memory_gb, "GB"),
        "shm_size": _SHARED_MEMORY,
        "disk": f"{resources.disk_gb}GB.." if resources.disk_gb is not None else None,
    }
    return {key: value for key, value in wanted.items() if value is not None}


def _gpu(accelerators: tuple[Accelerator, ...]) -> dict[str, Any] | int:
    """``A100-80GB:8`` as dstack has it: a name, a number, and the memory apart from both."""
    if not accelerators:
        return 0
    parts = [re.fullmatch(r"(.+?)(?:-(\d+)GB)?", accelerator.name) for accelerator in accelerators]
    sizes = [int(part[2]) for part in parts if part and part[2]]
    return {
        "vendor": accelerators[0].vendor.value,
        "name": list(dict.fromkeys(part[1] for part in parts if part)),
        "count": accelerators[0].count,
        **({"memory": f"{min(sizes)}GB.."} if sizes else {}),
    }


def _at_least(amount: str | None, unit: str = "") -> str | None:
    if amount is None:
        return None
    return amount.rstrip("+") + unit + (".." if amount.endswith("+") else "")


def _options(plan: RunPlan) -> dict[str, Any]:
    """What may be rented, and when it is given back."""
    resources, placement = plan.resources, plan.placement
    hours = plan.env.get(Env.MAX_HOURS)
    autostop = placement.autostop_minutes
    wanted = {
        "backends": [ALIASES.get(cloud, cloud) for cloud in placement.clouds],
        "regions": [placement.region] if placement.region else [],
        "availability_zones": [placement.zone] if placement.zone else [],
        "instance_types": [resources.instance_type] if resources.instance_type else [],
        "spot_policy": "spot" if resources.spot else "on-demand",
        "max_price": round(resources.max_hourly_cost / plan.num_nodes, 4) if resources.max_hourly_cost else None,
        "max_duration": math.ceil(float(hours) * 3600) + _LIMIT_MARGIN_S if hours else None,
        "idle_duration": f"{autostop}m" if autostop is not None else None,
        "retry": _RETRY,
        # The other nodes only lend their GPUs.
        "stop_criteria": "master-done" if plan.num_nodes > 1 else None,
        "ports": list(resources.ports),
        "tags": dict(resources.labels),
    }
    return {key: value for key, value in wanted.items() if value}


def _import_dstack() -> Any:
    try:
        import dstack.api
    except ImportError as error:
        raise FtlError(
            f"dstack is not installed here ({error})", hint="pip install 'ftl-tune[dstack]'; `ftl render` does without"
        ) from error
    return dstack.api


def _open(handle: str) -> tuple[Any, str]:
    """A client of the run's project, and the run's name there."""
    api = _import_dstack()
    project, name = _parse_handle(handle)
    client = _asked_of_dstack(name, lambda: api.Client.from_config(project_name=project or None))
    return client, name


def _task(request: Request, secrets: Mapping[str, str]) -> Any:
    """The task with values for the names in its ``env``."""
    api = _import_dstack()
    payload = dict(request.payload)
    if folder := sent_folder(request.plan):
        payload["files"] = [{**payload["files"][0], "local_path": folder}]
    task = _asked_of_dstack(request.name, lambda: api.Task.model_validate(payload))
    for name, value in {**secrets, "RAY_AUTH_TOKEN": random.token_hex(32)}.items():
        task.env[name] = value
    return task


def _asked_of_dstack(name: str, question: Callable[[], T]) -> T:
    """An answer of dstack's, or its error as ours."""
    try:
        return question()
    except Exception as error:  # its own classes, those of requests, and of pydantic
        raise FtlError(
            f"dstack: {name}: {error}", hint="`dstack project list` says which server and project it is set up for"
        ) from error


def _model(run: Any) -> Any:
    return run._run  # what the server answered: the public class shows only some of it


def _state(run: Any) -> BackendState:
    newest = run.jobs[0].job_submissions[-1] if run.jobs and run.jobs[0].job_submissions else None
    state = _STATES[run.status.value]
    ended = newest.finished_at if newest and state.is_terminal else None
    return BackendState(
        state,
        exit_code=newest.exit_status if newest and state is RunState.FAILED else None,
        message=run.error or (newest and (newest.termination_reason_message or newest.error)) or run.termination_reason,
        started_at=newest.submitted_at.timestamp() if newest and state not in _WAITING else None,
        ended_at=ended.timestamp() if ended else None,
    )


def _stop(handle: str, *, abort: bool) -> None:
    client, name = _open(handle)
    run = _asked_of_dstack(name, lambda: client.runs.get(name))
    if run is not None and not run.status.is_finished():
        _asked_of_dstack(name, lambda: run.stop(abort=abort))


def _parse_handle(handle: str) -> tuple[str, str]:
    project, _, name = handle.removeprefix("dstack://").partition("/")
    return project, name


BACKEND = DstackBackend()
