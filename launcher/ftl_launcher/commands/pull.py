"""``ftl pull``: bring a run's model, or one of its checkpoints, to this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ftl_launcher import formats
from ftl_launcher.commands.options import json_option, run_argument
from ftl_launcher.console import make_console, print_json, say
from ftl_launcher.paths import records_file
from ftl_launcher.records import RunRecord, RunStore
from ftl_launcher.run_files import FINAL, Part, RunFiles, choose_part, fetch_file, find_parts, open_run_files


@click.command()
@run_argument
@click.option("--dest", type=click.Path(file_okay=False, path_type=Path), help="Folder to write to; ./RUN if left out.")
@click.option("--checkpoint", metavar="STEP", help="A step, `latest`, or `final`; the final model, else the latest.")
@click.option("--list", "only_list", is_flag=True, help="Say what there is, and fetch nothing.")
@json_option
def pull(run: str, dest: Path | None, checkpoint: str | None, only_list: bool, as_json: bool) -> int:
    """Fetch the model or adapter that RUN made, with its metrics. Fetching again goes on with what is missing."""
    record = RunStore(records_file()).get(run)
    files = open_run_files(record.checkpoint_uri)
    parts = find_parts(files)
    if only_list:
        _list(parts, as_json)
        return 0
    part = choose_part(parts, checkpoint, record.checkpoint_uri)
    folder = dest or Path(run)
    fetched = _fetch(files, part, folder)
    if as_json:
        print_json({"run": run, "part": part.name, "folder": str(folder.absolute()), "files": fetched})
    else:
        _tell(record, part, folder, fetched)
    return 0


def _fetch(files: RunFiles, part: Part, folder: Path) -> list[str]:
    """Copy what is missing, with a bar in bytes on a terminal; returns what was copied."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = make_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    fetched = []
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = progress.add_task(part.name, total=part.size_bytes)
        for file in part.files:
            if fetch_file(files, file, part, folder):
                fetched.append(file.key)
            progress.advance(bar, file.size_bytes)
    return fetched


def _list(parts: list[Part], as_json: bool) -> None:
    rows: list[dict[str, Any]] = [
        {"name": part.name, "files": len(part.files), "size_bytes": part.size_bytes} for part in parts
    ]
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['name']:<20} {formats.size(row['size_bytes']):>10}   {row['files']} files")
    if not rows:
        say("nothing yet: no checkpoint has been committed")


def _tell(record: RunRecord, part: Part, folder: Path, fetched: list[str]) -> None:
    there = len(part.files) - len(fetched)
    already = f", {there} were there already" if there else ""
    say(f"{record.name}: {part.name} in {folder} ({formats.size(part.size_bytes)}, {len(fetched)} files{already})")
    if part.name == FINAL and (folder / "adapter_config.json").exists():
        say(f"`ftl inference CONFIG --lora-model-dir {folder}` talks to it")
