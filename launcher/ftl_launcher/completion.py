"""What the shell offers behind TAB: names of runs, keys of the config, and files. Answers at once, and never fails."""

from __future__ import annotations

from contextlib import suppress

import click
from click.shell_completion import CompletionItem

from ftl_launcher.paths import records_file


def complete_run(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of runs on record, the newest first; those on the command line already are left out."""
    from ftl_launcher.records import RunStore

    given = ctx.params.get(param.name or "") or ()
    with suppress(Exception):  # an unreadable file of records is told by the command itself
        records = RunStore(records_file()).list() if records_file().exists() else []
        return [
            CompletionItem(record.name, help=record.state.value)
            for record in records
            if record.name.startswith(incomplete) and record.name not in given
        ]
    return []


def complete_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The shell's own completion of paths."""
    return [CompletionItem(incomplete, type="file")]


def complete_key(incomplete: str) -> list[CompletionItem]:
    """``--learning-rate`` and the like: every key of the config, and of its launch section, that begins so."""
    from ftl_config.keys import LAUNCH, keys, section_types

    names = [name for name in keys() if name != LAUNCH]
    names += [f"{LAUNCH}.{name}" for name in section_types()[LAUNCH].model_fields]
    flags = (f"--{name.replace('_', '-')}" for name in names)
    return [CompletionItem(flag) for flag in flags if flag.startswith(incomplete.replace("_", "-"))]
