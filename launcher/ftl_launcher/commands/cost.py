"""``ftl cost``: what runs have cost."""

from __future__ import annotations

import time
from typing import Any

import click

from ftl_launcher import formats
from ftl_launcher.commands.options import json_option
from ftl_launcher.completion import complete_run
from ftl_launcher.console import make_console, print_json, say
from ftl_launcher.cost import cost_so_far, hours_so_far
from ftl_launcher.paths import records_file
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.refresh import refresh


@click.command()
@click.argument("names", nargs=-1, metavar="[RUN]...", shell_complete=complete_run)
@json_option
def cost(names: tuple[str, ...], as_json: bool) -> int:
    """Dollars of each RUN, or of all that were rented: the price offered at launch times the hours since."""
    store = RunStore(records_file())
    records = [refresh(store, store.get(name), allow_import=True) for name in names] or _rented(store)
    rows = [_row(record) for record in records]
    total = sum(row["cost"] or 0.0 for row in rows)
    if as_json:
        print_json({"runs": rows, "total": total})
    elif rows:
        _print(rows, total)
    else:
        say("no run on record was rented")
    return 0


def _rented(store: RunStore) -> list[RunRecord]:
    return [record for record in store.list() if record.hourly_cost is not None or record.spent]


def _row(record: RunRecord) -> dict[str, Any]:
    now = time.time()
    return {
        "run": record.name,
        "state": str(record.state),
        "hourly_cost": record.hourly_cost,
        "hours": round(hours_so_far(record, now), 4),
        "cost": cost_so_far(record, now),
    }


def _print(rows: list[dict[str, Any]], total: float) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", show_footer=len(rows) > 1, footer_style="bold")
    table.add_column("run", footer="total")
    table.add_column("state")
    for name in ("an hour", "hours", "cost"):
        table.add_column(name, justify="right", footer=formats.dollars(total) if name == "cost" else "")
    for row in rows:
        prices = formats.dollars(row["hourly_cost"]), f"{row['hours']:.2f}", formats.dollars(row["cost"])
        table.add_row(row["run"], row["state"], *prices)
    make_console().print(table)
