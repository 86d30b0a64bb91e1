"""Where human text goes: stdout for what was asked for, stderr for everything about it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def is_terminal() -> bool:
    """Whether stdout is a terminal that can redraw lines."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def make_console(*, stderr: bool = False) -> Console:
    """A rich console; off a terminal it writes plain text, 120 columns wide, whatever COLUMNS says less."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else max(int(os.environ.get("COLUMNS") or 0), 120)
    return Console(file=stream, width=width, highlight=False, soft_wrap=False)


def say(text: str) -> None:
    """A line about what is going on; on stderr, so that piped output holds results alone."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Say that something takes a while: a spinner on a terminal, one line elsewhere."""
    if not sys.stderr.isatty():
        say(text)
        yield
        return
    with make_console(stderr=True).status(text):
        yield


def print_json(value: Any) -> None:
    """A result on stdout, for ``--json``."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def print_error(message: str, hint: str | None) -> None:
    """An error in red (on a terminal that wants colour) and its hint below."""
    red, dim, off = ("\033[31m", "\033[2m", "\033[0m") if _wants_colour() else ("", "", "")
    say(f"{red}error:{off} {message}")
    if hint:
        say(f"{dim}  hint: {hint}{off}")


def print_report(report: str) -> None:
    """A report of several lines that says of each whether it is an error or a warning."""
    red, yellow, off = ("\033[31m", "\033[33m", "\033[0m") if _wants_colour() else ("", "", "")
    for line in report.splitlines():
        say(line.replace("error:", f"{red}error:{off}", 1).replace("warning:", f"{yellow}warning:{off}", 1))


def _wants_colour() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR")
