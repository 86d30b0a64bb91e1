"""``ftl resume``: the same run, one launch further."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from ftl_config.errors import FtlError
from ftl_launcher.commands.launch import after_submission, describe_plan
from ftl_launcher.commands.options import env_file_option, json_option, run_argument
from ftl_launcher.confirm import confirm_cost
from ftl_launcher.console import say, waiting
from ftl_launcher.host import look_at_host
from ftl_launcher.launch_checks import check_checkpoints
from ftl_launcher.limits import limit_text
from ftl_launcher.paths import records_file
from ftl_launcher.plan import RunPlan, carried_environment
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.refresh import refresh
from ftl_launcher.secret_values import collect_secrets
from ftl_launcher.states import RunState
from ftl_launcher.submission import make_request, next_launch, offered, submit_again, waiting_text


@click.command()
@run_argument
@env_file_option
@click.option("-d", "--detach", is_flag=True, help="Return once it is submitted.")
@click.option("-y", "--yes", is_flag=True, help="Launch without asking, whatever it costs.")
@click.option("--max-hours", type=click.FloatRange(min=0, min_open=True), help="Another limit, all launches together.")
@click.option("--max-cost", type=click.FloatRange(min=0, min_open=True), help="The same in dollars.")
@json_option
def resume(
    run: str,
    env_file: Path | None,
    detach: bool,
    yes: bool,
    max_hours: float | None,
    max_cost: float | None,
    as_json: bool,
) -> int:
    """Submit RUN's stored config again under its name; it goes on from its last committed checkpoint."""
    store = RunStore(records_file())
    record = refresh(store, store.get(run), allow_import=True)
    if record.state is RunState.SUCCEEDED:
        raise FtlError(f"run {run!r} has finished", hint="launch its config under another name to train again")
    if not record.state.is_terminal:
        raise FtlError(f"run {run!r} is {record.state}", hint=f"`ftl logs -f {run}` follows it")
    plan = _with_limits(record, next_launch(record, carried_environment(look_at_host())), max_hours, max_cost)
    backend, request = make_request(plan)
    secrets = collect_secrets(plan.secret_names, env_file)
    check_checkpoints(plan, secrets)
    request, offer = offered(backend, request, secrets)
    if offer:
        confirm_cost(request.plan, offer, yes=yes)
    if not as_json:
        say(f"launch {plan.launch_number} of {describe_plan(plan)}")
    with waiting(waiting_text(plan)):
        record = submit_again(store, backend, request, secrets, offer)
    return after_submission(store, record, secrets, detach=detach, as_json=as_json)


def _with_limits(record: RunRecord, plan: RunPlan, max_hours: float | None, max_cost: float | None) -> RunPlan:
    """The limits of the launch before, unless others are given.

    Raises:
        FtlError: the run stopped at its limit, which has not changed: it would stop at once again.
    """
    if record.state is RunState.STOPPED and max_hours is None and max_cost is None:
        raise FtlError(
            f"run {record.name!r} stopped at its limit ({limit_text(plan) or 'max_hours'})",
            hint="--max-hours or --max-cost, counted from the run's beginning, lets it go on",
            exit_code=2,
        )
    if max_hours is None and max_cost is None:
        return plan
    return replace(plan, max_hours=max_hours, max_cost=max_cost)
