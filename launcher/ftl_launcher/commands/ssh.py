"""``ftl ssh``: a shell, or one command, where a run runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

import click

from ftl_config.errors import FtlError
from ftl_launcher.backends.registry import load_backend
from ftl_launcher.commands.options import run_argument
from ftl_launcher.paths import records_file
from ftl_launcher.records import RunStore


@click.command(context_settings={"ignore_unknown_options": True})
@run_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[-- COMMAND...]")
@click.option("--rank", default=0, show_default=True, type=click.IntRange(min=0), help="Which node of the run.")
def ssh(run: str, command: tuple[str, ...], rank: int) -> int:
    """Open a shell on a node of RUN, or run COMMAND there; the exit code is that of the shell."""
    record = RunStore(records_file()).get(run)
    argv = load_backend(record.backend).shell(record.handle, rank)
    if command:
        argv = [*argv, *_as_command(argv[0], command)]
    sys.stdout.flush()
    try:
        return subprocess.run(argv, check=False, env=os.environ).returncode
    except FileNotFoundError as error:
        raise FtlError(f"{argv[0]} is not installed here") from error


def _as_command(program: str, command: tuple[str, ...]) -> list[str]:
    """ssh takes a command as one text for the other side's shell; a shell takes it behind -c."""
    text = shlex.join(command)
    return [text] if program == "ssh" else ["-c", text]
