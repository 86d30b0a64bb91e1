"""``ftl queue``: runs that have not ended, oldest first, with what each waits for."""

from __future__ import annotations

import time

import click

from ftl_launcher import formats
from ftl_launcher.commands.options import json_option
from ftl_launcher.commands.status import progress_text
from ftl_launcher.console import make_console, print_json, say
from ftl_launcher.paths import records_file
from ftl_launcher.progress import Progress
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.refresh import refresh


@click.command()
@json_option
def queue(as_json: bool) -> int:
    """Runs that wait or run, in the order of their submission; every backend is asked."""
    store = RunStore(records_file())
    asked = [refresh(store, record, allow_import=True) for record in reversed(store.list(live_only=True))]
    live = [record for record in asked if not record.state.is_terminal]
    if as_json:
        print_json([{"position": place, **record.to_json()} for place, record in enumerate(live, 1)])
    elif live:
        _print(live)
    else:
        say("nothing waits or runs")
    return 0


def _print(records: list[RunRecord]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("#", "run", "state", "progress", "waiting or running for", "where"):
        table.add_column(name)
    for place, record in enumerate(records, 1):
        since = time.time() - (record.submitted_at or record.created_at)
        progress = progress_text(Progress.from_dict(record.metrics))
        table.add_row(str(place), record.name, str(record.state), progress, formats.duration(since), record.backend)
    make_console().print(table)
