"""Progress of ``ftl preprocess``: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from ftl_runner.data.build import RowsDone
from ftl_runner.data.report import ReportLine

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_LINE_EVERY = 0.1
"""Share of the rows between two lines where there is no bar."""


@contextmanager
def show_progress(stream: TextIO | None = None) -> Iterator[Callable[[str], None]]:
    """A function that takes the lines of ``prepare``; the report's own lines are left to whoever prints the report."""
    out = stream or sys.stderr
    if not out.isatty():
        yield _Lines(out)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(file=out), transient=False) as progress:
        yield _Bar(progress)


class _Lines:
    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._said = 0

    def __call__(self, line: str) -> None:
        if isinstance(line, ReportLine):
            return
        if isinstance(line, RowsDone):
            if line.done < line.total and line.done - self._said < _LINE_EVERY * line.total:
                return
            self._said = line.done if line.done < line.total else 0
        self._out.write(line + "\n")
        self._out.flush()


class _Bar:
    """One bar a pass over rows: the training set's, then that of ``test_datasets``."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID | None = None

    def __call__(self, line: str) -> None:
        if isinstance(line, ReportLine):
            return
        if not isinstance(line, RowsDone):
            self._progress.console.print(line, markup=False, highlight=False)
            return
        if self._task is None:
            self._task = self._progress.add_task("tokenizing", total=line.total)
        self._progress.update(self._task, completed=line.done)
        if line.done == line.total:
            self._task = None
