"""Rows with a solution step by step, each step right or not: process reward models."""

from __future__ import annotations

from collections.abc import Callable

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import RowError
from ftl_runner.data.formats.preference_prompts import filled_text
from ftl_runner.data.messages import Steps
from ftl_runner.data.rows import Row, as_list, as_text, describe, require


def stepwise(spec: DatasetSpec, data: DataSection, variant: str) -> Callable[[Row], Steps]:
    """prompt, completions (the steps), labels (true or false, one a step)."""

    def convert(row: Row) -> Steps:
        steps = as_list(require(row, "completions"), "field 'completions'")
        labels = as_list(require(row, "labels"), "field 'labels'")
        if not steps:
            raise RowError("field 'completions' is an empty list", "a solution needs a step")
        if len(steps) != len(labels):
            raise RowError(
                f"'completions' has {len(steps)} steps and 'labels' has {len(labels)} labels", "one label a step"
            )
        return Steps(
            filled_text(row, "prompt"),
            tuple(_step(step, number) for number, step in enumerate(steps, 1)),
            tuple(_label(label, number) for number, label in enumerate(labels, 1)),
        )

    return convert


def _step(value: object, number: int) -> str:
    text = as_text(value, f"step {number}")
    if not text.strip():
        raise RowError(f"step {number} is empty", "leave it and its label out")
    return text


def _label(value: object, number: int) -> bool:
    if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise RowError(f"label {number} is {describe(value)}, not true or false")
