"""Rows of one dataset entry -> preference examples as tokens, each token marked with the part it belongs to."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.convert import LengthRule, Rejected, Tally
from ftl_runner.data.encode import IGNORE_INDEX, Encoded, Ints
from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.formats.preference_registry import Kind, find_preference_format, template_of
from ftl_runner.data.messages import Pair, Preference, Steps, Task, Unpaired
from ftl_runner.data.preference.lengths import DroppedError, Limits
from ftl_runner.data.preference.parts import PartEncoder
from ftl_runner.data.preference.texts import TextWriter
from ftl_runner.data.row_readers import RawRow
from ftl_runner.data.templates import ChatTemplate
from ftl_runner.data.turns import Rendered

if TYPE_CHECKING:
    from ftl_config import Config

GOOD, BAD = 1, 0
"""Marks of a better (chosen, desirable) and a worse answer, and of right and wrong steps; prompts are -100."""

_BATCH_CHARS = 1 << 19


@dataclass(frozen=True)
class _Written:
    """The texts of one example: a prompt, and answers or steps behind it."""

    index: int
    example: Preference
    texts: tuple[Rendered, ...]

    @property
    def prompt(self) -> str:
        text = self.texts[0]
        return text.text[: text.spans[0].start] if text.spans else text.text

    @property
    def answers(self) -> list[str]:
        return [text.text[span.start : span.end] for text in self.texts for span in text.spans]


class PreferenceConverter:
    """What ``RowConverter`` is to supervised rows: the same verbs, for one kind of preference data."""

    def __init__(self, spec: DatasetSpec, config: Config, tokenizer: Any, rule: LengthRule, kind: Kind) -> None:
        self.kind = kind
        self._spec, self._tokenizer = spec, tokenizer
        self._limits = Limits(rule, config.data.max_prompt_len, spec.max_completion_length)
        self._format = find_preference_format(spec, kind, config, tokenizer)
        self._writer = TextWriter(spec, config.data, tokenizer, rule)
        self._open_template()
        self._encoder: PartEncoder | None = None

    def _open_template(self) -> None:
        """Before any row: an unknown template is no matter of a row, and its text is part of the fingerprint."""
        wanted = template_of(self._spec, self.kind)
        if wanted is None:
            return
        name, needed = wanted
        try:
            self._writer.open(name)
        except DataError:  # rows of plain text need none; one of messages would say so
            if needed:
                raise

    @property
    def template(self) -> ChatTemplate | None:
        return self._writer.template

    @property
    def warnings(self) -> list[str]:
        return self._writer.warnings

    def convert(self, rows: Sequence[RawRow], first_index: int) -> tuple[list[Encoded], list[Rejected], Tally]:
        """Encoded examples that are kept, bad rows, and the tally. ``first_index`` is the index of ``rows[0]``."""
        tally, rejected = Tally(), list[Rejected]()
        kept: list[Encoded] = []
        batch: list[_Written] = []
        size = 0
        for index, row in enumerate(rows, start=first_index):
            if row is None:
                continue
            tally.rows_read += 1
            try:
                example = self.example(row)
                batch.append(_Written(index, example, self.write(example)))
            except RowError as error:
                rejected.append(Rejected(index, error))
                continue
            tally.notes.update({note for text in batch[-1].texts for note in text.notes})
            size += sum(len(text.text) for text in batch[-1].texts)
            if size >= _BATCH_CHARS:
                self._flush(batch, kept, rejected, tally)
                batch, size = [], 0
        self._flush(batch, kept, rejected, tally)
        return kept, sorted(rejected, key=lambda bad: bad.index), tally

    def example(self, row: RawRow) -> Preference:
        """What the format makes of a row.

        Raises:
            RowError: the row is bad.
        """
        if row is None:
            raise RowError("the line is blank")
        if isinstance(row, RowError):
            raise row
        return self._format(row)

    def write(self, example: Preference) -> tuple[Rendered, ...]:
        """The texts of an example, with spans for its answers or steps.

        Raises:
            RowError: the template refuses it.
        """
        writer = self._writer
        if isinstance(example, Pair):
            return writer.answered(example.prompt, (example.chosen, example.rejected))
        if isinstance(example, Unpaired):
            return writer.answered(example.prompt, (example.completion,))
        if isinstance(example, Steps):
            separator = "\n" if self._spec.step_separator is None else self._spec.step_separator
            return (writer.steps(example, separator),)
        return (writer.prompt(example.prompt),)

    def make_ready(self) -> None:
        """Load what is loaded at the first row, in a process that others are forked from."""
        self._part_encoder()

    def _part_encoder(self) -> PartEncoder:
        if self._encoder is None:
            self._encoder = PartEncoder(self._tokenizer)
        return self._encoder

    def _flush(self, batch: Sequence[_Written], kept: list[Encoded], rejected: list[Rejected], tally: Tally) -> None:
        if not batch:
            return
        encoder = self._part_encoder()
        prompts = encoder.prompts([written.prompt for written in batch])
        answers = iter(encoder.answers([text for written in batch for text in written.answers]))
        for written, prompt in zip(batch, prompts, strict=True):
            parts = [next(answers) for _ in written.answers]
            try:
                kept.append(self._row(written, prompt, _checked(parts), tally))
            except DroppedError as drop:
                tally.dropped[drop.reason] += 1
                tally.dropped_tokens[drop.reason] += drop.tokens
            except RowError as error:
                rejected.append(Rejected(written.index, error))

    def _row(self, written: _Written, prompt: Ints, answers: list[Ints], tally: Tally) -> Encoded:
        """The example as one row of tokens within the limits."""
        example = written.example
        if isinstance(example, Steps):
            numbers = [span.turn for span in written.texts[0].spans]
            marked = _mark_steps(prompt, answers, numbers, example.right, self._spec.train_on_last_step_only)
            return self._limits.fit_steps(marked, tally)
        if isinstance(example, Task):
            self._limits.check_alone(prompt)
            nothing = np.full(len(prompt), IGNORE_INDEX, dtype=np.int32)
            return Encoded(prompt, nothing, nothing, extra=_task_json(example))
        prompt, answers = self._limits.fit(prompt, answers, tally)
        marks = (GOOD, BAD) if isinstance(example, Pair) else (GOOD if example.good else BAD,)
        return _joined(prompt, answers, marks)


def _checked(parts: Sequence[Ints | RowError]) -> list[Ints]:
    for part in parts:
        if isinstance(part, RowError):
            raise part
    return [part for part in parts if not isinstance(part, RowError)]


def _joined(prompt: Ints, answers: Sequence[Ints], marks: Sequence[int]) -> Encoded:
    ids = np.concatenate([prompt, *answers])
    labels = np.concatenate(
        [np.full(len(prompt), IGNORE_INDEX), *(np.full(len(a), mark) for a, mark in zip(answers, marks, strict=True))]
    ).astype(np.int32)
    return Encoded(ids, labels, labels)


def _mark_steps(
    prompt: Ints, parts: Sequence[Ints], numbers: Sequence[int], right: Sequence[bool], last_only: bool | None
) -> Encoded:
    """Each step's judgement stands on the last token of its separator; turns are steps, -1 for the problem."""
    ids = np.concatenate([prompt, *parts])
    turns = np.repeat([-1, *numbers], [len(prompt), *map(len, parts)]).astype(np.int32)
    labels = np.full(len(ids), IGNORE_INDEX, dtype=np.int32)
    for number, good in enumerate(right):
        tokens = np.flatnonzero(turns == number)
        if len(tokens) and (not last_only or number == len(right) - 1):
            labels[tokens[-1]] = GOOD if good else BAD
    return Encoded(ids, labels, turns)


def _task_json(task: Task) -> str:
    """The row that the trainer gets: the prompt as messages or text, and the columns for reward functions."""
    conversation = task.prompt.conversation
    prompt: Any = task.prompt.text
    columns = dict(task.columns)
    if conversation is not None:
        prompt = [dict(message.fields) for message in conversation.messages]
        if conversation.tools is not None:
            columns["tools"] = list(conversation.tools)
    try:
        return json.dumps({"prompt": prompt, **columns}, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise RowError(f"a column for the reward functions is no JSON value: {error}") from error
