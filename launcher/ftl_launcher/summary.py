"""What is printed when a run is over: figures, samples, where everything lies."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ftl_launcher import formats
from ftl_launcher.console import make_console
from ftl_launcher.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table

_MAX_SAMPLES = 3
_MAX_SAMPLE_CHARS = 1200
_SHOWN_ABOVE = frozenset(
    {"run_id", "config_digest", "steps", "steps_this_attempt", "first_loss", "final_loss", "eval_loss"}
)
"""Metrics that the title and the rows made from the events tell already."""
_LABELS = {"world_size": "workers", "tokens_per_s": "tokens/s", "train_s": "training", "total_s": "whole run"}
_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "preempted": "yellow"}


def print_summary(progress: Progress, title: str, state: str) -> None:
    """Tables on stdout; silent where the run ended before it had anything to tell."""
    console = make_console()
    if progress.samples:
        console.print(_samples_table(progress.samples[-_MAX_SAMPLES:]))
    figures = _figures(progress)
    if figures:
        console.print(_figures_table(figures, title, state))


def _figures(progress: Progress) -> list[tuple[str, str]]:
    """Rows of the summary: what the runner measured, in its own words, then where the files are."""
    rows: list[tuple[str, str]] = []
    if progress.total_steps:
        rows.append(("steps", f"{progress.step} of {progress.total_steps}"))
    if progress.resumed_from is not None:
        rows.append(("resumed from step", str(progress.resumed_from)))
    if progress.losses:
        first, last = progress.losses[0], progress.loss if progress.loss is not None else progress.losses[-1]
        course = formats.sparkline(progress.losses)
        rows.append(("loss", f"{formats.number(first)} -> {formats.number(last)}  {course}"))
    if progress.eval_loss is not None:
        rows.append(("eval loss", formats.number(progress.eval_loss)))
    rows += [
        (_LABELS.get(key, key.replace("_", " ")), _metric(key, value))
        for key, value in progress.summary.items()
        if _is_plain(value) and key not in _SHOWN_ABOVE and not (key == "attempt" and value == 1)
    ]
    if progress.checkpoint_uri:
        rows.append(("last checkpoint", f"{progress.checkpoint_uri} (step {progress.checkpoint_step})"))
    rows += [(name.replace("_", " "), _shown_path(str(path))) for name, path in progress.files.items()]
    return rows


def _shown_path(path: str) -> str:
    """Relative where it lies below the current folder: shorter, and it can be typed."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here) if path.startswith(here) else path


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _metric(key: str, value: Any) -> str:
    if key.endswith("_s") and "per_s" not in key and isinstance(value, int | float):
        return formats.duration(value) if value >= 60 else f"{value:.1f}s"
    if key.endswith("_bytes") and isinstance(value, int | float):
        return formats.size(value)
    if key.endswith(("_params", "_tokens", "per_s")) and isinstance(value, int | float):
        return formats.count(value)
    return formats.number(value)


def _figures_table(rows: list[tuple[str, str]], title: str, state: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"{title}: {state}", style=f"bold {_STYLES.get(state, 'white')}"), show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, Text(value))
    return table


def _samples_table(samples: list[dict[str, Any]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="before and after", show_lines=True, expand=True)
    for name, ratio in (("prompt", 2), ("base model", 3), ("tuned model", 3)):
        table.add_column(name, ratio=ratio, overflow="fold")
    for sample in samples:
        table.add_row(*(Text(_shorten(sample.get(key))) for key in ("prompt", "base", "tuned")))
    return table


def _shorten(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= _MAX_SAMPLE_CHARS else text[:_MAX_SAMPLE_CHARS] + " ..."
