"""``ftl runs``: everything on record, as it was last known."""

from __future__ import annotations

import shutil
import time

import click

from ftl_config.errors import FtlError
from ftl_launcher import formats
from ftl_launcher.commands.options import json_option
from ftl_launcher.commands.status import progress_text
from ftl_launcher.console import make_console, print_json, say
from ftl_launcher.paths import RunDir, records_file
from ftl_launcher.progress import Progress
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.states import RunState


@click.command()
@click.option("--state", type=click.Choice([str(state) for state in RunState]), help="Only runs in this state.")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@click.option("--forget", metavar="RUN", help="Delete the record and log of an ended run; its checkpoints stay.")
@json_option
def runs(state: str | None, limit: int, forget: str | None, as_json: bool) -> int:
    """List runs, newest first."""
    store = RunStore(records_file())
    if forget is not None:
        _forget(store, forget)
        return 0
    records = [record for record in store.list() if state is None or record.state == state][:limit]
    if as_json:
        print_json([record.to_json() for record in records])
    elif records:
        _print(records)
    else:
        say("no runs on record")
    return 0


def _forget(store: RunStore, name: str) -> None:
    record = store.get(name)
    if not record.state.is_terminal:
        raise FtlError(f"run {name!r} is {record.state}", hint=f"`ftl cancel {name}` first")
    store.delete(name)
    shutil.rmtree(RunDir.of(name).path, ignore_errors=True)
    say(f"forgot {name}; its checkpoints are still in {record.checkpoint_uri}")


def _print(records: list[RunRecord]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "state", "progress", "loss", "created", "took", "where", "checkpoints"):
        table.add_column(name, no_wrap=name in ("run", "state", "created"), overflow="fold")
    for record in records:
        progress = Progress.from_dict(record.metrics)
        took = (record.ended_at or time.time()) - record.created_at
        table.add_row(
            record.name,
            record.state,
            progress_text(progress),
            formats.number(progress.loss),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(record.created_at)),
            formats.duration(took),
            record.backend,
            record.checkpoint_uri,
        )
    make_console().print(table)
