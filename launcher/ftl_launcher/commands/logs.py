"""``ftl logs``: what a run printed, with its events as readable lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

import click

from ftl_config.protocol import parse_event
from ftl_launcher import formats
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.commands.following import follow_to_end, redactor_for
from ftl_launcher.commands.options import run_argument
from ftl_launcher.paths import records_file
from ftl_launcher.rank_lines import lines_of_rank
from ftl_launcher.records import RunRecord, RunStore


@click.command()
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends; Ctrl-C detaches.")
@click.option("--rank", type=click.IntRange(min=0), help="Only the output of this worker.")
@click.option("--raw", is_flag=True, help="Lines as they came.")
@click.option("--json", "as_json", is_flag=True, help='One JSON object a line: events, and free text as {"text": ...}.')
def logs(run: str, follow: bool, rank: int | None, raw: bool, as_json: bool) -> int:
    """Print the output of RUN."""
    store = RunStore(records_file())
    record = store.get(run)
    plain = not raw and not as_json and rank is None
    if follow and plain and not record.state.is_terminal:
        return follow_to_end(store, record, {}, cancel_on_interrupt=False)
    redact = redactor_for(record, {})
    lines = _lines(record, follow)
    for line in lines if rank is None else lines_of_rank(lines, rank):
        text = _show(redact(line), raw=raw, as_json=as_json)
        if text is not None:
            sys.stdout.write(text + "\n")
    return 0


def _lines(record: RunRecord, follow: bool) -> Iterator[str]:
    """Lines of the log; output is flushed whenever there is nothing new."""
    for line in load_backend(record.backend).logs(record.handle, follow=follow):
        if line is None:
            sys.stdout.flush()
        else:
            yield line


def _show(line: str, *, raw: bool, as_json: bool) -> str | None:
    if raw:
        return line
    event = parse_event(line)
    if as_json:
        return json.dumps({"text": line}, ensure_ascii=False) if event is None else event.to_json()
    return line if event is None else formats.event_line(event)
