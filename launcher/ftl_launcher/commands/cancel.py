"""``ftl cancel``: stop runs, each after saving a checkpoint."""

from __future__ import annotations

import time

import click

from ftl_config.errors import FtlError
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.commands.options import json_option
from ftl_launcher.completion import complete_run
from ftl_launcher.console import print_json, say
from ftl_launcher.follow import request_cancel
from ftl_launcher.paths import records_file
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.refresh import refresh
from ftl_launcher.render import STOP_GRACE_S

_POLL_S = 0.5
_MARGIN_S = 20


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN]...", shell_complete=complete_run)
@click.option("--all", "every", is_flag=True, help="Every run that is live.")
@click.option("--no-wait", is_flag=True, help="Return once the run was asked to stop.")
@json_option
def cancel(names: tuple[str, ...], every: bool, no_wait: bool, as_json: bool) -> int:
    """Ask each RUN to save a checkpoint and stop, and wait until it has."""
    store = RunStore(records_file())
    if every == bool(names):
        raise click.UsageError("name the runs to cancel, or --all")
    if every:
        names = tuple(record.name for record in store.list(live_only=True))
    records = [refresh(store, store.get(name), allow_import=True) for name in names]
    for index, record in enumerate(records):
        if record.state.is_terminal:
            say(f"{record.name}: already {record.state}")
            continue
        records[index] = request_cancel(store, load_backend(record.backend), record)
        say(f"{record.name}: stopping; it saves a checkpoint first")
    if not no_wait:
        records = [_wait(store, record) for record in records]
    if as_json:
        print_json([record.to_json() for record in records])
    return 0


def _wait(store: RunStore, record: RunRecord) -> RunRecord:
    if record.state.is_terminal:
        return record
    deadline = time.monotonic() + STOP_GRACE_S + _MARGIN_S
    while time.monotonic() < deadline:
        record = refresh(store, store.get(record.name), allow_import=True)
        if record.state.is_terminal:
            step = record.metrics.get("checkpoint_step")
            saved = f"; last checkpoint: step {step}" if step is not None else ""
            say(f"{record.name}: {record.state}{saved}")
            return record
        time.sleep(_POLL_S)
    raise FtlError(
        f"{record.name} has not stopped within {STOP_GRACE_S + _MARGIN_S} s", hint=f"see `ftl logs {record.name}`"
    )
