"""Prompts and answers of preference rows, from whatever shape a column has: text, a message, a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import RowError
from ftl_runner.data.formats.chat import ChatReader
from ftl_runner.data.messages import Message, Prompt
from ftl_runner.data.rows import Row, as_text, describe, require


@dataclass(frozen=True)
class PromptReader:
    """Reads prompts and answers of one dataset entry; ``template`` is a shipped one that the type's name fixes."""

    chat: ChatReader
    template: str | None = None

    @classmethod
    def build(cls, spec: DatasetSpec, data: DataSection, template: str | None = None) -> PromptReader:
        """The reader of an entry, with its ``roles`` and ``message_property_mappings``."""
        return cls(ChatReader.build(spec, data, spec.field_messages or "messages"), template)

    def prompt(self, row: Row, value: Any, what: str) -> Prompt:
        """A question (text, or messages that do not end with an answer), with the row's system prompt and tools.

        Raises:
            RowError: empty, of another kind, or it ends with the assistant's turn.
        """
        if isinstance(value, str) and not value.lstrip().startswith("[{"):
            value = [self._as_row("user", _filled(value, what))]
        elif isinstance(value, Mapping):
            value = [value]
        conversation = self.chat.conversation(row, value, what)
        if conversation.messages[-1].role == "assistant":
            raise RowError(f"{what} ends with the assistant's turn", "the prompt ends where the answer begins")
        return Prompt(conversation, template=self.template)

    def answer(self, value: Any, what: str) -> Message:
        """An answer: text, the assistant's message, or a conversation that ends with it.

        Raises:
            RowError: empty, of another kind, or of another role.
        """
        if isinstance(value, str):
            value = self._as_row("assistant", _filled(value, what))
        elif isinstance(value, list | tuple):
            if not value:
                raise RowError(f"{what} is an empty list", "an answer needs a message")
            value = value[-1]
        if not isinstance(value, Mapping):
            raise RowError(f"{what} is {describe(value)}, not text, a message or a list of messages")
        try:
            message = self.chat.message(value, 1)
        except RowError as error:
            raise RowError(f"{what}: {error.message}", error.hint) from error
        if message.role != "assistant":
            raise RowError(f"{what} is a message of role {message.role!r}, not the assistant's")
        return message

    def history(self, row: Row, value: Any, what: str) -> tuple[Prompt, Message]:
        """A whole conversation, taken apart: all but the last message are the prompt.

        Raises:
            RowError: no list, or one without a question and an answer.
        """
        if not isinstance(value, list | tuple):
            raise RowError(f"{what} is {describe(value)}, not a list of messages")
        if len(value) < 2:
            raise RowError(f"{what} has no question in front of its answer", "it holds the whole conversation")
        return self.prompt(row, list(value[:-1]), what), self.answer(value, what)

    def with_template(self, template: str | None) -> PromptReader:
        """The same reader, with a template that the type fixes."""
        return replace(self, template=template)

    def _as_row(self, role: str, text: str) -> dict[str, str]:
        return {self.chat.role_key: role, self.chat.content_key: text}


def filled_text(row: Row, name: str) -> str:
    """The text of a field that must be there, kept to the letter.

    Raises:
        RowError: missing, null, empty or no text.
    """
    return _filled(require(row, name), f"field {name!r}")


def _filled(value: Any, what: str) -> str:
    text = as_text(value, what)
    if not text.strip():
        raise RowError(f"{what} is empty", "fill it in or leave the row out")
    return text
