"""Rows with one answer that is good or not: KTO."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import RowError
from ftl_runner.data.formats.preference_prompts import PromptReader, filled_text
from ftl_runner.data.formats.written_prompts import WrittenPrompt, fill_answer
from ftl_runner.data.messages import Prompt, Unpaired
from ftl_runner.data.rows import Row, describe, require

UnpairedFormat: TypeAlias = Callable[[Row], Unpaired]


def columns(spec: DatasetSpec, data: DataSection, variant: str) -> UnpairedFormat:
    """A question's column, completion, label, and system where there is one; ``variant`` is ``template:question``."""
    template, question = variant.split(":")
    reader = PromptReader.build(spec, data, template or None)

    def convert(row: Row) -> Unpaired:
        prompt = reader.prompt(row, require(row, question), f"field {question!r}")
        answer = reader.answer(require(row, "completion"), "field 'completion'")
        return Unpaired(prompt, answer, is_good(row, "label"))

    return convert


def conversations(spec: DatasetSpec, data: DataSection, variant: str) -> UnpairedFormat:
    """completion, label: a whole conversation, the last message of which is judged."""
    reader = PromptReader.build(spec, data, variant or None)

    def convert(row: Row) -> Unpaired:
        prompt, answer = reader.history(row, require(row, "completion"), "field 'completion'")
        return Unpaired(prompt, answer, is_good(row, "label"))

    return convert


def passthrough(spec: DatasetSpec, data: DataSection, variant: str) -> UnpairedFormat:
    """prompt, completion, label: texts taken to the letter (eos is added), or messages for the chat template."""
    reader = PromptReader.build(spec, data)

    def convert(row: Row) -> Unpaired:
        value = require(row, "prompt")
        if isinstance(value, list | tuple | Mapping):
            answer = reader.answer(require(row, "completion"), "field 'completion'")
            return Unpaired(reader.prompt(row, value, "field 'prompt'"), answer, is_good(row, "label"))
        return Unpaired(Prompt(text=filled_text(row, "prompt")), filled_text(row, "completion"), is_good(row, "label"))

    return convert


def written(spec: DatasetSpec, data: DataSection, variant: str) -> UnpairedFormat:
    """The columns and formats that the config gives: prompt_format, completion_format."""
    prompt = WrittenPrompt.build(spec)
    given = prompt.options
    completion, label = given.field_completion or "completion", given.field_label or "label"

    def convert(row: Row) -> Unpaired:
        answer = fill_answer(given.completion_format, "completion", completion, filled_text(row, completion))
        return Unpaired(Prompt(text=prompt.write(row)), answer, is_good(row, label))

    return convert


def is_good(row: Row, name: str) -> bool:
    """A label: true or false, also as 1 or 0.

    Raises:
        RowError: missing, null or something else.
    """
    value = require(row, name)
    if isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise RowError(f"field {name!r} is {describe(value)}, not true or false", "true marks a good answer")
