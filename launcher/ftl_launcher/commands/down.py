"""``ftl down``: free everything that runs hold."""

from __future__ import annotations

import click

from ftl_config.errors import FtlError
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.commands.options import json_option
from ftl_launcher.completion import complete_run
from ftl_launcher.console import print_json, say
from ftl_launcher.paths import records_file
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.refresh import refresh


@click.command()
@click.argument("names", nargs=-1, metavar="RUN...", shell_complete=complete_run)
@click.option("--all", "everything", is_flag=True, help="Every run that has not ended.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@json_option
def down(names: tuple[str, ...], everything: bool, yes: bool, as_json: bool) -> int:
    """End each RUN at once, without another checkpoint, and free its machines. `ftl cancel` saves one first."""
    store = RunStore(records_file())
    if bool(names) == everything:
        raise FtlError("name the runs, or give --all", exit_code=2)
    records = store.list(live_only=True) if everything else [store.get(name) for name in names]
    live = [record.name for record in records if not record.state.is_terminal]
    if live and not yes:
        click.confirm(f"end {', '.join(live)} without another checkpoint?", abort=True)
    freed = [_free(store, record) for record in records]
    if as_json:
        print_json([record.to_json() for record in freed])
    return 0


def _free(store: RunStore, record: RunRecord) -> RunRecord:
    if not record.state.is_terminal:
        record = store.update(record.name, cancel_requested=True)
    load_backend(record.backend).down(record.handle)
    say(f"{record.name}: freed")
    return refresh(store, record, allow_import=True)
