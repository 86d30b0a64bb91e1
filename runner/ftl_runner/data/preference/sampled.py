"""Inference prompts of preference data: what answers are compared behind is what the model is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.convert import LengthRule
from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.formats.preference_registry import Kind
from ftl_runner.data.messages import Conversation, Message, Pair, Preference, Prompt, Steps, Unpaired
from ftl_runner.data.preference.convert import PreferenceConverter
from ftl_runner.data.preference.texts import TextWriter

if TYPE_CHECKING:
    from ftl_config import Config


class PreferencePrompts:
    """Reads rows of one dataset entry as prompts, and writes prompts as its rows are written."""

    def __init__(self, spec: DatasetSpec, config: Config, tokenizer: Any, kind: Kind) -> None:
        rule = LengthRule(config.data.sequence_len)
        self._converter = PreferenceConverter(spec, config, tokenizer, rule, kind)
        self._writer = TextWriter(spec, config.data, tokenizer, rule)

    def example(self, row: Any) -> Preference:
        """What the format makes of a row.

        Raises:
            RowError: the row is bad.
        """
        return self._converter.example(row)

    def sample(self, example: Preference) -> tuple[str, str, str]:
        """What to show of the question, the whole prompt, and the answer there (the better one, if any)."""
        text, *_ = self._converter.write(example)
        start = text.spans[0].start if text.spans else len(text.text)
        answer = "".join(text.text[span.start : span.end] for span in text.spans)
        return _question(example), text.text[:start], answer if isinstance(example, Pair | Unpaired) else ""

    def typed(self, messages: Sequence[Mapping[str, Any]], template: str | None) -> str:
        """The prompt of a conversation, written by a shipped template or (None) the config's.

        Raises:
            DataError: the template refuses the messages.
        """
        turns = tuple(Message(str(m["role"]), str(m["content"]), fields=dict(m)) for m in messages)
        try:
            return self._writer.prompt(Prompt(Conversation(turns), template=template)).text
        except RowError as error:
            raise DataError(error.message, error.hint) from error


def _question(example: Preference) -> str:
    if isinstance(example, Steps):
        return example.prompt.strip()
    conversation = example.prompt.conversation
    if conversation is None:
        return example.prompt.text.strip()
    return conversation.messages[-1].content.strip() if conversation.messages else ""
