"""From a plan to something that runs, with the record written before and after.

Killed at any line, what is left is either nothing, or a record whose handle says where to look for the run.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

from ftl_config.errors import FtlError
from ftl_config.protocol import Env
from ftl_launcher.backends.protocol import Backend, Offer, Request
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.cost import cost_so_far
from ftl_launcher.limits import with_limit
from ftl_launcher.paths import RunDir
from ftl_launcher.plan import RunPlan
from ftl_launcher.processes import process_tag
from ftl_launcher.records import RunRecord, RunStore, new_record
from ftl_launcher.states import RunState
from ftl_launcher.upload import excludes_of


def make_request(plan: RunPlan) -> tuple[Backend, Request]:
    """The plan in its backend's words.

    Raises:
        FtlError: the backend cannot do what the plan asks; every reason is named.
    """
    backend, plan = load_backend(plan.backend), _with_secret_names(with_limit(plan))
    refusals = backend.refusals(plan)
    if refusals:
        lines = "\n".join(f"  - {reason}" for reason in refusals)
        raise FtlError(f"the {plan.backend} backend cannot run this:\n{lines}", exit_code=2)
    return backend, backend.request(plan)


def _with_secret_names(plan: RunPlan) -> RunPlan:
    """The names where the runner reads them: it cuts their values out of what it prints."""
    if not plan.secret_names:
        return plan
    return replace(plan, env={**plan.env, str(Env.SECRET_NAMES): ",".join(plan.secret_names)})


def waiting_text(plan: RunPlan) -> str:
    """What the user waits for while a plan is being submitted."""
    return {"local": "starting Ray on this machine ...", "ray": "submitting to Ray ..."}.get(
        plan.backend, f"submitting to {plan.backend} ..."
    )


def offered(backend: Backend, request: Request, secrets: Mapping[str, str]) -> tuple[Request, Offer | None]:
    """What the request would rent, and the request with the limit that a price gives it.

    Raises:
        FtlError: nothing fits, nobody can be asked now, or a limit in dollars where no price is known.
    """
    offer = backend.offer(request, secrets)
    plan = with_limit(request.plan, offer)
    return (request if plan == request.plan else backend.request(plan)), offer


def submit_new(
    store: RunStore, backend: Backend, request: Request, secrets: Mapping[str, str], offer: Offer | None = None
) -> RunRecord:
    """First launch of a run.

    Raises:
        FtlError: the name is taken, or the backend does not take the run (the record then says FAILED).
    """
    plan = request.plan
    record = new_record(
        name=plan.name,
        backend=plan.backend,
        handle=request.handle,
        config_digest=plan.config_digest,
        config_yaml=plan.config_yaml,
        plan=plan.to_json(),
        checkpoint_uri=plan.checkpoint_uri,
        submitter=process_tag(),
        hourly_cost=offer.hourly_cost if offer else None,
    )
    store.create(record)
    return _submit(store, backend, request, secrets)


def submit_again(
    store: RunStore, backend: Backend, request: Request, secrets: Mapping[str, str], offer: Offer | None = None
) -> RunRecord:
    """A later launch of a run that had ended.

    Raises:
        FtlError: the run is live or succeeded, another terminal was faster, or the backend does not take it.
    """
    plan = request.plan
    store.claim_for_resume(
        plan.name,
        submitter=process_tag(),
        handle=request.handle,
        plan=plan.to_json(),
        launch_number=plan.launch_number,
        hourly_cost=offer.hourly_cost if offer else None,
        spent=cost_so_far(store.get(plan.name), time.time()) or 0.0,
    )
    return _submit(store, backend, request, secrets)


def next_launch(record: RunRecord, carried: Mapping[str, str]) -> RunPlan:
    """The stored plan, one launch further; settings such as AWS_ENDPOINT_URL, and .ftlignore, as they are now."""
    plan = RunPlan.from_json(record.plan)
    return replace(
        plan, launch_number=record.launch_number + 1, env={**plan.env, **carried}, upload_excludes=excludes_of(plan)
    )


def _submit(store: RunStore, backend: Backend, request: Request, secrets: Mapping[str, str]) -> RunRecord:
    try:
        _write_run_dir(request)
        backend.submit(request, secrets)
    except BaseException as error:
        _note_failure(store, request.name, error)
        raise
    return store.update(request.name, state=RunState.STARTING, submitted_at=time.time(), submitter=None)


def _write_run_dir(request: Request) -> None:
    run_dir = RunDir.of(request.name)
    try:
        run_dir.create()
        run_dir.config.write_text(request.plan.config_yaml)
        run_dir.plan.write_text(request.plan.to_json())
        (run_dir.path / request.filename).write_text(request.text)
    except OSError as error:
        raise FtlError(
            f"cannot write the run's folder {run_dir.path}: {error.strerror}", hint="set FTL_HOME to a writable folder"
        ) from error


def _note_failure(store: RunStore, name: str, error: BaseException) -> None:
    interrupted = isinstance(error, KeyboardInterrupt)
    state = RunState.CANCELLED if interrupted else RunState.FAILED
    message = "interrupted while submitting" if interrupted else getattr(error, "message", str(error))
    store.update(name, state=state, error=message, ended_at=time.time(), submitter=None)
