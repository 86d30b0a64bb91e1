"""Prompts that the model answers itself, for GRPO; a row's other columns go to the reward functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.formats.preference_prompts import PromptReader, filled_text
from ftl_runner.data.messages import Prompt, Task
from ftl_runner.data.rows import Row, require

TaskFormat: TypeAlias = Callable[[Row], Task]


def prompts(spec: DatasetSpec, data: DataSection, variant: str) -> TaskFormat:
    """prompt: messages for the chat template, or text to the letter; and any other columns."""
    reader = PromptReader.build(spec, data)

    def convert(row: Row) -> Task:
        columns = {name: value for name, value in row.items() if name != "prompt"}
        value = require(row, "prompt")
        if isinstance(value, list | tuple | Mapping):
            return Task(reader.prompt({}, value, "field 'prompt'"), columns)
        return Task(Prompt(text=filled_text(row, "prompt")), columns)

    return convert


def messages(spec: DatasetSpec, data: DataSection, variant: str) -> TaskFormat:
    """messages, without an answer at their end or with one, which is left out; and any other columns."""
    reader = PromptReader.build(spec, data)
    name = spec.field_messages or "messages"

    def convert(row: Row) -> Task:
        value = require(row, name)
        if isinstance(value, list | tuple) and len(value) > 1 and _is_answer(reader, value[-1]):
            value = list(value[:-1])
        columns = {key: other for key, other in row.items() if key not in (name, reader.chat.field_system)}
        return Task(reader.prompt(row, value, f"field {name!r}"), columns)

    return convert


def _is_answer(reader: PromptReader, message: object) -> bool:
    return isinstance(message, Mapping) and reader.chat.roles.get(str(message.get(reader.chat.role_key))) == "assistant"
