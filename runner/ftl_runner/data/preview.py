"""Rows token by token, coloured by label, and the report: what ``ftl preprocess --debug`` prints."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from ftl_runner.data.encode import IGNORE_INDEX

if TYPE_CHECKING:
    from datasets import Dataset

    from ftl_runner.data.report import PrepareReport

_TRAINED, _MASKED, _BOUNDARY, _OFF = "\x1b[32m", "\x1b[31m", "\x1b[36m", "\x1b[0m"
_WARNING = "\x1b[1;33m"
_BAR_WIDTH = 40


def print_examples(
    dataset: Dataset, tokenizer: Any, count: int, stream: TextIO | None = None, *, text_only: bool = False
) -> None:
    """The first ``count`` rows: green tokens are trained, red ones are not; each with ``(label, id)``.

    With ``text_only`` the text alone, trained parts in green (in brackets where there is no colour).
    """
    out = stream or sys.stdout
    colour = has_colour(out)
    for number in range(min(count, len(dataset))):
        row = dataset[number]
        trained = sum(label != IGNORE_INDEX for label in row["labels"])
        out.write(f"row {number + 1}: {len(row['input_ids'])} tokens, {trained} trained\n")
        shown = _text(row, tokenizer, colour=colour) if text_only else _tokens(row, tokenizer, colour=colour)
        out.write("".join(shown) + "\n\n")


def _text(row: dict[str, Any], tokenizer: Any, *, colour: bool) -> Iterator[str]:
    """Stretches of tokens that are trained or not, decoded as a whole."""
    trained_on, masked_on, off = (_TRAINED, _MASKED, _OFF) if colour else ("[[", "", "]]")
    positions = row.get("position_ids") or range(len(row["input_ids"]))
    run: list[int] = []
    before: bool | None = None
    for token, label, position in [*zip(row["input_ids"], row["labels"], positions, strict=True), (None, None, None)]:
        begins = position == 0 and bool(run)
        trained = before if label is None else label != IGNORE_INDEX
        if run and (token is None or begins or trained != before):
            text = tokenizer.decode(run, skip_special_tokens=False, clean_up_tokenization_spaces=False)
            yield f"{trained_on if before else masked_on}{text}{off if before or colour else ''}"
            run = []
        if begins:
            yield _boundary(colour)
        run.append(token)
        before = trained


def _boundary(colour: bool) -> str:
    return f"\n{_BOUNDARY if colour else ''}--- next sequence of this packed row ---{_OFF if colour else ''}\n"


def _tokens(row: dict[str, Any], tokenizer: Any, *, colour: bool) -> Iterator[str]:
    positions = row.get("position_ids") or range(len(row["input_ids"]))
    for number, (token, label, position) in enumerate(zip(row["input_ids"], row["labels"], positions, strict=True)):
        if number and position == 0:
            yield _boundary(colour)
        text = tokenizer.decode([token], clean_up_tokenization_spaces=False)
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
    warn_on, warn_off = (_WARNING, _OFF) if has_colour(out) else ("", "")
    for source in report.sources:
        template = f", template {source.chat_template}" if source.chat_template else ""
        out.write(f"{source.name}: {source.rows:,} rows, type {source.type}{template}\n")
    for line in report.lines():
        out.write(f"{warn_on}{line}{warn_off}\n" if line.startswith("WARNING") else f"{line}\n")
    out.writelines(_histogram(report))
    if report.rejected_path:
        out.write(f"bad rows were left out; they are listed in {report.rejected_path}\n")
    found = "found in the cache" if report.cache_hit else f"prepared in {report.prepare_s:.1f} s"
    out.write(f"{found}: {report.cache_path}\n")


def _histogram(report: PrepareReport) -> Iterator[str]:
    most = max((count for _, count in (*report.length_histogram, *report.long_lengths)), default=0) or 1
    fate = "were dropped" if report.excess_length_strategy == "drop" else "before they were cut"
    for title, bins, sign in (
        ("sequences by length:", report.length_histogram, "#"),
        (f"rows over sequence_len {report.sequence_len} ({fate}):", report.long_lengths, "x"),
    ):
        if bins:
            yield f"{title}\n"
        for top, count in bins:
            yield f"  <= {top:>9,} tokens {count:>9,} {sign * math.ceil(_BAR_WIDTH * count / most)}\n"


def has_colour(stream: TextIO) -> bool:
    """Whether colour codes are wanted: on a terminal, unless NO_COLOR or FORCE_COLOR say otherwise."""
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or stream.isatty()
