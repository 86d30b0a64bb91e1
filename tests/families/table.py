"""The page ``docs/model-families.md``: written from what was run, read back by the test."""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from tests.families.architectures import FAMILIES, Family
from tests.families.trial import FEATURES, STEPS, Cell
from tests.services.s3 import ROOT

PAGE = ROOT / "docs/model-families.md"
_MARKS = {"ran": "✓", "failed": "✗", "untested": "untested"}
_LIBRARIES = ("torch", "transformers", "peft", "bitsandbytes")

_TEXT = """# Model families

Made by `python -m tests.families`, which runs what it says; edit that, not this page.

Of each family a random model of two layers, with the proportions of a real one, is trained for {steps} steps by the
runner's own loader, adapter, collator and trainer, on a CPU. A ✓ says that the loss was finite, that everything trained
moved and nothing else did, that a packed step gave the loss of the same sequences unpacked, and that recomputed
activations (`gradient_checkpointing`) gave the loss of kept ones. fp32 and bf16 are full fine-tunes; LoRA and QLoRA
(nf4) are on all linear layers; the plain columns are unpacked, `packed` is `sample_packing: true`.

Run with {versions}.

{table}

{notes}

The way of models and tokenizers that bring their own code is tried with a small one of each
(`tests/families/own_code.py`).
"""


def write_page(results: Mapping[str, Mapping[str, Cell]], page: Path = PAGE) -> None:
    """The page, from the cells of every family by its name."""
    notes: dict[str, int] = {}
    header = ["family", "for example", *FEATURES]
    rows = [header, ["---"] * len(header)]
    rows += [_row(family, results[family.name], notes) for family in FAMILIES]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    versions = ", ".join(f"{name} {version(name).partition('+')[0]}" for name in _LIBRARIES)
    versions = f"Python {'.'.join(platform.python_version_tuple()[:2])}, {versions}"
    listed = "\n".join(f"{number}. {text}" for text, number in notes.items())
    page.write_text(_TEXT.format(steps=STEPS, versions=versions, table=table, notes=listed), encoding="utf-8")


def read_page(page: Path = PAGE) -> dict[str, dict[str, str]]:
    """The state of every cell, by family and feature."""
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    header, _, *rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in lines]
    states = {mark: state for state, mark in _MARKS.items()}
    return {
        re.sub(r" \(\d+\)$", "", name): {
            feature: states[cell.partition(" ")[0]] for feature, cell in zip(header[2:], cells, strict=True)
        }
        for name, _, *cells in rows
    }


def _row(family: Family, cells: Mapping[str, Cell], notes: dict[str, int]) -> list[str]:
    name = family.name + _reference(family.note, notes)
    return [
        name,
        f"`{family.example}`",
        *(_MARKS[cell.state] + _reference(cell.reason, notes) for cell in cells.values()),
    ]


def _reference(text: str | None, notes: dict[str, int]) -> str:
    """The number of a note, given at its first use."""
    return "" if text is None else f" ({notes.setdefault(text, len(notes) + 1)})"
