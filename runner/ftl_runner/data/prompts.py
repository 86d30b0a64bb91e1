"""Inference prompts, written the way the training text was: a prompt is a prefix of it, byte for byte."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.convert import LengthRule, RowConverter, uses_template
from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.formats.preference_registry import Kind, kind_of, template_of
from ftl_runner.data.formats.registry import find_format
from ftl_runner.data.messages import Conversation, Example, Segments, TokenRow
from ftl_runner.data.preference.sampled import PreferencePrompts
from ftl_runner.data.row_readers import RawRow
from ftl_runner.data.sources import find_source
from ftl_runner.data.stream import first_stream_rows, is_streamed, train_entries

if TYPE_CHECKING:
    from ftl_config import Config

_WINDOW = 64


@dataclass(frozen=True)
class SamplePrompt:
    """A prompt from the data, and the answer that stands there."""

    question: str
    """What to show a reader: the last user message, or the prompt's own text."""
    prompt: str
    """What to tokenize, without adding special tokens."""
    answer: str


def render_prompt(config: Config, tokenizer: Any, messages: Sequence[Mapping[str, Any]]) -> str:
    """The text that a model trained with this config expects before its answer; tokenize it without special tokens.

    With a dataset of the alpaca family the last message is the instruction (and a system message the system prompt);
    with chat datasets, the template writes the conversation.

    Raises:
        DataError: the template refuses the messages.
    """
    spec = (train_entries(config) or (DatasetSpec(path="-", type="chat_template"),))[0]
    if kind := kind_of(config):
        wanted = template_of(spec, kind)
        if wanted is None or not wanted[1]:  # rows of plain text: the text as it is
            return str(messages[-1]["content"])
        return PreferencePrompts(spec, config, tokenizer, kind).typed(messages, wanted[0])
    converter = _converter(config, tokenizer, spec)
    if uses_template(spec) or (tokenizer.chat_template and _is_python(spec)):
        renderer = converter.turn_renderer()
        given = [dict(message) for message in messages]
        system = config.data.default_system_message
        if system and not spec.drop_system_message and given and given[0].get("role") != "system":
            given = [{"role": "system", "content": system}, *given]
        try:
            return renderer.template.render(given, add_generation_prompt=True)
        except RowError as error:
            raise DataError(error.message, error.hint) from error
    try:
        example = find_format(spec, config.data)(_as_row(spec, messages))
    except RowError:  # a type whose rows are no question and answer: the text as it is
        return str(messages[-1]["content"])
    return _segments_prompt(converter, example) if isinstance(example, Segments) else str(messages[-1]["content"])


def _is_python(spec: DatasetSpec) -> bool:
    return isinstance(spec.type, str) and "." in spec.type and not spec.type.startswith(("alpaca", "context_qa"))


def _as_row(spec: DatasetSpec, messages: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """A row of the alpaca family (whatever its columns are called) from a conversation."""
    question = str(messages[-1]["content"])
    system = next((str(message["content"]) for message in messages if message.get("role") == "system"), "")
    named = {"input": "", "system": system, "system_prompt": system, "context": system or " "}
    for name in ("instruction", "question", "message_1", "INSTRUCTION", "prompt", "article"):
        named[name] = question
    for name in ("output", "answer", "response", "message_2", "RESPONSE", "generation", "summary"):
        named[name] = "x"
    if spec.type == "input_output":
        named["input"] = question
    given = spec.type if not isinstance(spec.type, str) and spec.type is not None else spec
    for key, value in (("field_instruction", question), ("field_output", "x"), ("field_input", "")):
        column = getattr(given, key, None)
        if column:
            named[column] = question if spec.type == "input_output" and key == "field_input" else value
    return named


def _segments_prompt(converter: RowConverter, example: Segments) -> str:
    """The text in front of the last trained segment."""
    rendered = converter.render(example)
    if example.splittable or not rendered.spans:
        return rendered.text[: rendered.spans[0].start] if rendered.spans else rendered.text
    return rendered.text[: rendered.spans[-1].start]


def _converter(config: Config, tokenizer: Any, spec: DatasetSpec) -> RowConverter:
    return RowConverter(spec, config.data, tokenizer, LengthRule(config.data.sequence_len))


def first_rows(config: Config, n: int) -> list[list[dict[str, Any]]]:
    """The prompts of the first ``n`` usable rows as messages (without the answer), test_datasets first.

    Rows without messages of their own come as one user message that holds their prompt text.
    """
    return [_prompt_messages(example) for _, example in _first_examples(config, n)]


def sample_prompts(config: Config, tokenizer: Any, n: int) -> list[SamplePrompt]:
    """The first ``n`` usable rows as prompts that are ready for the model, for any format."""
    if kind := kind_of(config):
        return _preference_prompts(config, tokenizer, n, kind)
    prompts = []
    for spec, example in _first_examples(config, n):
        converter = _converter(config, tokenizer, spec)
        if isinstance(example, Segments):
            untrained = "".join(part.text for part in example.parts if not part.train)
            if not untrained.strip():
                prompts.append(_start_of_text(converter, example, config, tokenizer))
                continue
            text = _segments_prompt(converter, example)
            answer = "".join(part.text for part in example.parts if part.train)
            prompts.append(SamplePrompt(untrained.strip(), text, answer))
        elif isinstance(example, Conversation):
            messages = _prompt_messages(example)
            tools = example.tools
            text = converter.turn_renderer().template.render(messages, tools, add_generation_prompt=True)
            answer = example.messages[len(messages)].content if len(messages) < len(example.messages) else ""
            prompts.append(SamplePrompt(str(messages[-1].get("content", "")), text, answer))
    return prompts


def _preference_prompts(config: Config, tokenizer: Any, n: int, kind: Kind) -> list[SamplePrompt]:
    found: list[SamplePrompt] = []
    for spec, rows in _heads(config, n):
        prompts = PreferencePrompts(spec, config, tokenizer, kind)
        for row in rows:
            if len(found) == n:
                return found
            try:
                question, prompt, answer = prompts.sample(prompts.example(row))
            except RowError:
                continue
            found.append(SamplePrompt(question, prompt, answer))
    return found


def _start_of_text(converter: RowConverter, example: Segments, config: Config, tokenizer: Any) -> SamplePrompt:
    """A row without a question: the first ``generation_prompt_ratio`` of its tokens are the prompt."""
    rendered = converter.render(example)
    start = rendered.spans[0].start if rendered.spans else 0
    body = "".join(part.text for part in example.parts)
    ends = [end for _, end in tokenizer(body, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]]
    ends = ends[: config.data.sequence_len]
    count = max(1, int(config.logging.generation_prompt_ratio * len(ends)))
    cut = ends[count - 1] if ends else 0
    return SamplePrompt(body[:cut].strip(), rendered.text[:start] + body[:cut], body[cut:])


def _prompt_messages(example: Example) -> list[dict[str, Any]]:
    if isinstance(example, Conversation):
        answers = [index for index, message in enumerate(example.messages) if message.role == "assistant"]
        end = answers[-1] if answers and answers[-1] > 0 else len(example.messages)
        return [dict(message.fields) for message in example.messages[:end]]
    if isinstance(example, Segments):
        return [{"role": "user", "content": "".join(part.text for part in example.parts if not part.train)}]
    return []


def _head(spec: DatasetSpec, count: int, scratch: Path, *, streamed: bool) -> list[RawRow]:
    if streamed:
        return [row for _, _, row in first_stream_rows(spec, count)]
    reader = find_source(spec).open(scratch)
    return reader.read(0, min(len(reader), count))


def _heads(config: Config, n: int) -> Iterator[tuple[DatasetSpec, list[RawRow]]]:
    """The first rows of each entry, test_datasets first."""
    specs = (*(config.data.test_datasets or ()), *train_entries(config))
    with tempfile.TemporaryDirectory() as scratch:
        for spec in specs:
            yield spec, _head(spec, max(_WINDOW, n), Path(scratch), streamed=is_streamed(config))


def _first_examples(config: Config, n: int) -> list[tuple[DatasetSpec, Example]]:
    found: list[tuple[DatasetSpec, Example]] = []
    for spec, rows in _heads(config, n):
        if len(found) >= n:
            break
        convert = find_format(spec, config.data)
        for row in rows:
            if len(found) >= n or row is None or isinstance(row, RowError):
                continue
            try:
                example = convert(row)
            except RowError:
                continue
            if not isinstance(example, TokenRow):
                found.append((spec, example))
    return found
