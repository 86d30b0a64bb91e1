"""``ftl launch``: plan, check, submit, follow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftl_launcher.commands.following import follow_to_end
from ftl_launcher.commands.options import ConfigCommand, env_file_option, json_option
from ftl_launcher.commands.planning import planned
from ftl_launcher.commands.rendering import print_request
from ftl_launcher.confirm import confirm_cost
from ftl_launcher.console import print_json, say, waiting
from ftl_launcher.launch_checks import CHECKS, MODEL_AND_ROWS
from ftl_launcher.paths import records_file
from ftl_launcher.plan import RunPlan
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.secret_values import collect_secrets
from ftl_launcher.submission import make_request, offered, submit_new, waiting_text

if TYPE_CHECKING:
    from ftl_config import LoadedConfig


@click.command(cls=ConfigCommand)
@planned
@env_file_option
@click.option("--dryrun", "--dry-run", is_flag=True, help="Print what would be submitted, and stop.")
@click.option("-d", "--detach", is_flag=True, help="Return once it is submitted.")
@click.option("-y", "--yes", is_flag=True, help="Launch without asking, whatever it costs.")
@click.option("--skip-checks", is_flag=True, help="Do not look at local files and the checkpoint bucket first.")
@click.option("--skip-memory-check", is_flag=True, help="Launch it though the GPUs' memory will hardly do.")
@json_option
def launch(
    loaded: LoadedConfig,
    plan: RunPlan,
    env_file: Path | None,
    dryrun: bool,
    detach: bool,
    yes: bool,
    skip_checks: bool,
    skip_memory_check: bool,
    as_json: bool,
) -> int:
    """Run CONFIG: here, on a Ray cluster (--ray-address), on a cloud (--cloud), or by another --backend."""
    backend, request = make_request(plan)
    if dryrun:
        print_request(request, as_json=as_json)
        return 0
    values = collect_secrets(plan.secret_names, env_file)
    if not skip_checks:
        skipped = (*((MODEL_AND_ROWS,) if plan.backend == "local" else ()), *(("memory",) if skip_memory_check else ()))
        for name, check in CHECKS.items():
            if name not in skipped and (warning := check(loaded, plan, values)):
                say(f"note: {warning}")
    request, offer = offered(backend, request, values)
    if offer:
        confirm_cost(request.plan, offer, yes=yes)
    store = RunStore(records_file())
    if not as_json:
        say(describe_plan(plan))
    with waiting(waiting_text(plan)):
        record = submit_new(store, backend, request, values, offer)
    return after_submission(store, record, values, detach=detach, as_json=as_json)


def describe_plan(plan: RunPlan) -> str:
    """One line on what is about to happen."""
    where = {"local": "this machine", "ray": f"Ray at {plan.placement.ray_address}"}.get(
        plan.backend, ", ".join(plan.placement.clouds) or plan.backend
    )
    workers = f"{plan.num_workers} worker{'s' if plan.num_workers > 1 else ''}"
    nodes = f" on {plan.num_nodes} nodes" if plan.num_nodes > 1 else ""
    return f"run {plan.name}: {where}, {workers}{nodes}, checkpoints in {plan.checkpoint_uri}"


def after_submission(
    store: RunStore, record: RunRecord, secrets: dict[str, str], *, detach: bool, as_json: bool
) -> int:
    """Follow it, or say how to."""
    if not detach:
        # A run on this machine belongs to this terminal; one elsewhere goes on without it.
        return follow_to_end(store, record, secrets, cancel_on_interrupt=record.backend == "local", as_json=as_json)
    if as_json:
        print_json(record.to_json())
    else:
        say(f"submitted. `ftl logs -f {record.name}` follows, `ftl status {record.name}` asks, `ftl cancel` stops it")
    return 0
