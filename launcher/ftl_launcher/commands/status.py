"""``ftl status``: where runs are, at once. Imports neither Ray nor SkyPilot for the list."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from ftl_launcher import formats
from ftl_launcher.commands.options import json_option
from ftl_launcher.completion import complete_run
from ftl_launcher.console import make_console, print_json, say
from ftl_launcher.cost import cost_so_far
from ftl_launcher.paths import records_file
from ftl_launcher.progress import Progress
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.refresh import refresh

if TYPE_CHECKING:
    from rich.table import Table

_RECENT_S = 24 * 3600
_MAX_ROWS = 20
_STYLES = {
    "succeeded": "green",
    "failed": "red",
    "lost": "red",
    "running": "cyan",
    "cancelled": "yellow",
    "stopped": "yellow",
}


@click.command()
@click.argument("run", required=False, shell_complete=complete_run)
@click.option("--refresh", "ask_all", is_flag=True, help="Ask every backend, also those that take seconds.")
@json_option
def status(run: str | None, ask_all: bool, as_json: bool) -> int:
    """State and progress of RUN, or of all runs that are live or ended within a day."""
    store = RunStore(records_file())
    if run is not None:
        record = refresh(store, store.get(run), allow_import=True, read_log=True)
        _print_one(record, as_json)
        return 0
    records = [_current(store, record, ask_all) for record in _recent(store)]
    if as_json:
        print_json([record.to_json() for record in records])
    elif records:
        make_console().print(_table(records))
    else:
        say("no runs in the last day. `ftl runs` lists older ones, `ftl launch CONFIG` starts one")
    return 0


def _recent(store: RunStore) -> list[RunRecord]:
    """Every live run, and the newest of those that ended within a day."""
    live = store.list(live_only=True)
    names = {record.name for record in live}
    limit = time.time() - _RECENT_S
    ended = [
        record
        for record in store.list(limit=_MAX_ROWS)
        if record.name not in names and (record.ended_at or record.created_at) > limit
    ]
    return sorted([*live, *ended], key=lambda record: record.created_at, reverse=True)


def _current(store: RunStore, record: RunRecord, ask_all: bool) -> RunRecord:
    return record if record.state.is_terminal else refresh(store, record, allow_import=ask_all)


def _table(records: list[RunRecord]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("run", "state", "progress", "loss", "tok/s", "eta", "cost", "age", "where"):
        table.add_column(name, no_wrap=name in ("run", "state", "progress"))
    for record in records:
        progress = Progress.from_dict(record.metrics)
        live = not record.state.is_terminal
        table.add_row(
            record.name,
            Text(record.state, style=_STYLES.get(record.state, "")),
            progress_text(progress),
            formats.number(progress.loss),
            formats.count(progress.tokens_per_s) if live else "-",
            formats.duration(progress.eta_s) if live else "-",
            formats.dollars(cost_so_far(record, time.time())),
            formats.duration(time.time() - record.created_at),
            record.backend,
        )
    return table


def progress_text(progress: Progress) -> str:
    """``120/400 (30%)``, or the phase before training starts."""
    if progress.fraction is None:
        return progress.phase or "-"
    return f"{progress.step}/{progress.total_steps} ({progress.fraction:.0%})"


def _print_one(record: RunRecord, as_json: bool) -> None:
    if as_json:
        print_json(record.to_json())
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in _facts(record):
        if value not in (None, "", "-"):
            table.add_row(name, Text(str(value)))
    make_console().print(table)


def _facts(record: RunRecord) -> list[tuple[str, Any]]:
    progress = Progress.from_dict(record.metrics)
    live = not record.state.is_terminal
    return [
        ("run", record.name),
        ("state", record.state),
        ("error", record.error),
        ("exit code", record.exit_code),
        ("phase", progress.phase if live else None),
        ("progress", progress_text(progress)),
        ("loss", f"{formats.number(progress.loss)}  {formats.sparkline(progress.losses)}" if progress.losses else None),
        ("eval loss", formats.number(progress.eval_loss)),
        ("speed", f"{formats.count(progress.tokens_per_s)} tok/s" if progress.tokens_per_s else None),
        ("time left", formats.duration(progress.eta_s) if live else None),
        ("last checkpoint", progress.checkpoint_uri and f"{progress.checkpoint_uri} (step {progress.checkpoint_step})"),
        ("checkpoints", record.checkpoint_uri),
        ("launches", record.launch_number),
        ("recoveries", max(0, progress.attempt - record.launch_number) if progress.attempt else None),
        ("cost so far", _cost(record)),
        ("where", record.handle),
        ("config digest", record.config_digest[:16]),
        ("created", _clock(record.created_at)),
        ("started", _clock(record.started_at)),
        ("ended", _clock(record.ended_at)),
    ]


def _cost(record: RunRecord) -> str | None:
    cost = cost_so_far(record, time.time())
    if cost is None:
        return None
    return formats.dollars(cost) + (f" ({formats.dollars(record.hourly_cost)} an hour)" if record.hourly_cost else "")


def _clock(seconds: float | None) -> str | None:
    return None if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
