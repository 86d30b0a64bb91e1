"""Rows token by token, coloured by label, and the report: what ``ftl preprocess --debug`` prints."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from ftl_runner.data.encode import IGNORE_INDEX

if TYPE_CHECKING:
    from datasets import Dataset

    from ftl_runner.data.report import PrepareReport

_TRAINED, _MASKED, _BOUNDARY, _OFF = "\x1b[32m", "\x1b[31m", "\x1b[36m", "\x1b[0m"
_BAR_WIDTH = 40


def print_examples(dataset: Dataset, tokenizer: Any, count: int, stream: TextIO | None = None) -> None:
    """The first ``count`` rows: green tokens are trained, red ones are not; each with ``(label, id)``."""
    out = stream or sys.stdout
    colour = has_colour(out)
    for number in range(min(count, len(dataset))):
        row = dataset[number]
        out.write(f"row {number + 1}: {len(row['input_ids'])} tokens\n")
        out.write("".join(_tokens(row, tokenizer, colour=colour)) + "\n\n")


def _tokens(row: dict[str, Any], tokenizer: Any, *, colour: bool) -> Iterator[str]:
    positions = row.get("position_ids") or range(len(row["input_ids"]))
    for number, (token, label, position) in enumerate(zip(row["input_ids"], row["labels"], positions, strict=True)):
        if number and position == 0:
            yield f"\n{_BOUNDARY if colour else ''}--- next sequence of this packed row ---{_OFF if colour else ''}\n"
        text = tokenizer.decode([token])
        shown = text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
        line_break = "\n" if "\n" in text else " "
        entry = f"{shown}({label}, {token})"
        if not colour:
            yield entry + line_break
        else:
            yield f"{_MASKED if label == IGNORE_INDEX else _TRAINED}{entry}{_OFF}{line_break}"


def print_report(report: PrepareReport, stream: TextIO | None = None) -> None:
    """The report's lines, where the set lies, and how long its sequences are."""
    out = stream or sys.stdout
    for source in report.sources:
        template = f", template {source.chat_template}" if source.chat_template else ""
        out.write(f"{source.name}: {source.rows:,} rows, type {source.type}{template}\n")
    out.writelines(f"{line}\n" for line in report.lines())
    if report.length_histogram:
        most = max(count for _, count in report.length_histogram) or 1
        out.write("sequences by length:\n")
        for top, count in report.length_histogram:
            out.write(f"  <= {top:>7,} tokens {count:>9,} {'#' * round(_BAR_WIDTH * count / most)}\n")
    if report.rejected_path:
        out.write(f"bad rows were left out; they are listed in {report.rejected_path}\n")
    found = "found in the cache" if report.cache_hit else f"prepared in {report.prepare_s:.1f} s"
    out.write(f"{found}: {report.cache_path}\n")


def has_colour(stream: TextIO) -> bool:
    """Whether colour codes are wanted: on a terminal, unless NO_COLOR or FORCE_COLOR say otherwise."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()
