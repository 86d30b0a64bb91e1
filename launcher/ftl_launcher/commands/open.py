"""``ftl open``: the page on a run, in the browser."""

from __future__ import annotations

import click

from ftl_config.errors import FtlError
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.commands.options import json_option, run_argument
from ftl_launcher.console import print_json
from ftl_launcher.paths import records_file
from ftl_launcher.records import RunStore


@click.command(name="open")
@run_argument
@click.option("--print", "only_print", is_flag=True, help="Print the address, open nothing.")
@json_option
def open_(run: str, only_print: bool, as_json: bool) -> int:
    """Show the dashboard page of RUN: Ray's, or SkyPilot's."""
    record = RunStore(records_file()).get(run)
    address = load_backend(record.backend).dashboard(record.handle)
    if address is None:
        raise FtlError(f"{run} has no page to show now", hint=f"`ftl status {run}` says where it is")
    if as_json:
        print_json({"run": run, "url": address})
    else:
        click.echo(address)
    if not (only_print or as_json):
        click.launch(address)
    return 0
