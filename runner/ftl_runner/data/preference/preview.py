"""Preference examples part by part, as ``ftl preprocess --debug`` prints them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

import click

from ftl_runner.data.encode import IGNORE_INDEX
from ftl_runner.data.preview import has_colour

if TYPE_CHECKING:
    from datasets import Dataset


def print_preferences(
    dataset: Dataset, tokenizer: Any, count: int, stream: TextIO | None = None, *, text_only: bool = False
) -> None:
    """The first ``count`` rows: every part with its tokens and ids; what is compared or judged is green.

    With ``text_only`` the text of each part alone.
    """
    out = stream or sys.stdout
    colour = has_colour(out)
    for number in range(min(count, len(dataset))):
        out.write(f"row {number + 1}\n")
        for name, value in dataset[number].items():
            if text_only and name.endswith("_ids"):
                text = tokenizer.decode(value, skip_special_tokens=False, clean_up_tokenization_spaces=False)
                out.write(f"{name.removesuffix('_ids')}: {len(value)} tokens\n{text}\n")
                continue
            out.write(_part(name, value, tokenizer, dataset[number], colour=colour))
        out.write("\n")


def _part(name: str, value: Any, tokenizer: Any, row: Mapping[str, Any], *, colour: bool) -> str:
    if name == "labels":
        return ""
    if not name.endswith("_ids"):
        return f"{name}: {value}\n"
    labels = row.get("labels") if name == "input_ids" else None
    judged = name not in ("prompt_ids", "input_ids")
    entries = []
    for at, token in enumerate(value):
        label = labels[at] if labels is not None else None
        mark = "" if label in (None, IGNORE_INDEX) else ("right, " if label else "wrong, ")
        entry = f"{_shown(tokenizer, token)}({mark}{token})"
        entries.append(click.style(entry, fg="green" if judged or mark else "red") if colour else entry)
    return f"{name.removesuffix('_ids')}: {len(value)} tokens\n{' '.join(entries)}\n"


def _shown(tokenizer: Any, token: int) -> str:
    """A token's text in one line, line breaks and the like escaped."""
    text = str(tokenizer.decode([token]))
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
