"""Rows with a better and a worse answer: DPO, IPO, SimPO, ORPO, and reward models."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import RowError
from ftl_runner.data.formats.preference_prompts import PromptReader, filled_text
from ftl_runner.data.formats.written_prompts import WrittenPrompt, fill_answer
from ftl_runner.data.messages import Message, Pair, Prompt
from ftl_runner.data.rows import Row, as_list, describe, require

PairFormat: TypeAlias = Callable[[Row], Pair]


def messages(spec: DatasetSpec, data: DataSection, variant: str) -> PairFormat:
    """messages, chosen, rejected: the prompt's messages (or its text) and two answers."""
    reader = PromptReader.build(spec, data)
    question = spec.field_messages or "messages"
    chosen, rejected = _answer_fields(spec)

    def convert(row: Row) -> Pair:
        if question not in row and isinstance(row.get(chosen), list | tuple) and len(row[chosen]) > 1:
            raise RowError(
                f"no field {question!r}, and {chosen!r} holds a whole conversation",
                "type: chat_template.argilla_chat reads such rows",
            )
        prompt = reader.prompt(row, require(row, question), f"field {question!r}")
        return Pair(prompt, *_answers(reader, row, chosen, rejected))

    return convert


def conversations(spec: DatasetSpec, data: DataSection, variant: str) -> PairFormat:
    """chosen, rejected: whole conversations that part at their last message. ``variant`` names a template."""
    reader = PromptReader.build(spec, data, variant or None)
    chosen, rejected = _answer_fields(spec)

    def convert(row: Row) -> Pair:
        prompt, better = reader.history(row, require(row, chosen), f"field {chosen!r}")
        other, worse = reader.history(row, require(row, rejected), f"field {rejected!r}")
        if _contents(prompt) != _contents(other):
            raise RowError(
                f"{chosen!r} and {rejected!r} part before their last message",
                "two answers are compared behind one and the same prompt: cut both conversations where they part",
            )
        return Pair(prompt, better, worse)

    return convert


def columns(spec: DatasetSpec, data: DataSection, variant: str) -> PairFormat:
    """A question's column, two answers, and system where there is one.

    ``variant`` is ``template:question:chosen:rejected``; an empty template leaves the choice to the config. An answer
    is text, a message, or a conversation whose last message is taken.
    """
    template, question, chosen, rejected = variant.split(":")
    reader = PromptReader.build(spec, data, template or None)
    chosen, rejected = spec.field_chosen or chosen, spec.field_rejected or rejected

    def convert(row: Row) -> Pair:
        prompt = reader.prompt(row, require(row, question), f"field {question!r}")
        return Pair(prompt, *_answers(reader, row, chosen, rejected))

    return convert


def any_columns(spec: DatasetSpec, data: DataSection, variant: str) -> PairFormat:
    """A question and two answers under the first of the usual names that the row has. ``variant`` names a template."""

    def convert(row: Row) -> Pair:
        question = _first(row, ("prompt", "input", "question", "instruction"))
        chosen, rejected = (_first(row, (name, f"{name}_response")) for name in ("chosen", "rejected"))
        return columns(spec, data, f"{variant}:{question}:{chosen}:{rejected}")(row)

    return convert


def _first(row: Row, names: tuple[str, ...]) -> str:
    return next((name for name in names if name in row), names[0])


def messages_or_argilla(spec: DatasetSpec, data: DataSection, variant: str) -> PairFormat:
    """Rows with a column of messages, or those of ``chat_template.argilla``."""
    with_messages, without = messages(spec, data, ""), argilla(spec, data, "")
    question = spec.field_messages or "messages"
    return lambda row: (with_messages if question in row else without)(row)


def argilla(spec: DatasetSpec, data: DataSection, variant: str) -> PairFormat:
    """chosen, rejected: conversations, or answers alone behind a column prompt."""
    whole, apart = conversations(spec, data, ""), columns(spec, data, ":prompt:chosen:rejected")
    chosen, _ = _answer_fields(spec)

    def convert(row: Row) -> Pair:
        value = row.get(chosen)
        return (whole if isinstance(value, list | tuple) and len(value) > 1 else apart)(row)

    return convert


def nectar(spec: DatasetSpec, data: DataSection, variant: str) -> PairFormat:
    """prompt, answers of answer and rank: the best answer (rank 1) and the worst one, in Zephyr's template."""
    reader = PromptReader.build(spec, data, "zephyr")

    def convert(row: Row) -> Pair:
        ranked = sorted(
            (_ranked(item, number) for number, item in enumerate(as_list(require(row, "answers"), "answers"), 1)),
            key=lambda pair: pair[0],
        )
        if len(ranked) < 2:
            raise RowError("field 'answers' has less than two answers", "a pair needs two")
        prompt = reader.prompt(row, require(row, "prompt"), "field 'prompt'")
        return Pair(prompt, reader.answer(ranked[0][1], "answer"), reader.answer(ranked[-1][1], "answer"))

    return convert


def passthrough(spec: DatasetSpec, data: DataSection, variant: str) -> PairFormat:
    """prompt, chosen, rejected: texts taken to the letter (eos is added), or messages for the chat template."""
    reader = PromptReader.build(spec, data)
    chosen, rejected = _answer_fields(spec)

    def convert(row: Row) -> Pair:
        value = require(row, "prompt")
        if isinstance(value, list | tuple | Mapping):
            prompt = reader.prompt(row, value, "field 'prompt'")
            return Pair(prompt, *_answers(reader, row, chosen, rejected))
        prompt = Prompt(text=filled_text(row, "prompt"))
        return Pair(prompt, filled_text(row, chosen), filled_text(row, rejected))

    return convert


def written(spec: DatasetSpec, data: DataSection, variant: str) -> PairFormat:
    """The columns and formats that the config gives: prompt_format, chosen_format, rejected_format."""
    prompt = WrittenPrompt.build(spec)
    given = prompt.options
    chosen = given.field_chosen or spec.field_chosen or "chosen"
    rejected = given.field_rejected or spec.field_rejected or "rejected"

    def convert(row: Row) -> Pair:
        return Pair(
            Prompt(text=prompt.write(row)),
            fill_answer(given.chosen_format, "chosen", chosen, filled_text(row, chosen)),
            fill_answer(given.rejected_format, "rejected", rejected, filled_text(row, rejected)),
        )

    return convert


def reward(spec: DatasetSpec, data: DataSection, variant: str) -> PairFormat:
    """input, chosen, rejected (and system), or whole conversations in chosen and rejected."""
    whole = conversations(spec, data, variant)
    apart = columns(spec, data, f"{variant}:input:chosen:rejected")

    def convert(row: Row) -> Pair:
        return (apart if "input" in row else whole)(row)

    return convert


def _answer_fields(spec: DatasetSpec) -> tuple[str, str]:
    return spec.field_chosen or "chosen", spec.field_rejected or "rejected"


def _answers(reader: PromptReader, row: Row, chosen: str, rejected: str) -> tuple[Message, Message]:
    better = reader.answer(require(row, chosen), f"field {chosen!r}")
    return better, reader.answer(require(row, rejected), f"field {rejected!r}")


def _contents(prompt: Prompt) -> list[tuple[str, str]]:
    assert prompt.conversation is not None
    return [(message.role, message.content) for message in prompt.conversation.messages]


def _ranked(item: Any, number: int) -> tuple[float, Any]:
    if not isinstance(item, Mapping) or "answer" not in item:
        raise RowError(f"entry {number} of 'answers' is {describe(item)}, not an object with answer and rank")
    rank = item.get("rank")
    if isinstance(rank, bool) or not isinstance(rank, int | float):
        raise RowError(f"rank of entry {number} of 'answers' is {describe(rank)}, not a number")
    return rank, item["answer"]
