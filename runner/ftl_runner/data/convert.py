"""Rows of one dataset entry -> encoded rows: format, template, mask, tokens, length."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.encode import IGNORE_INDEX, BatchEncoder, Encoded
from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.formats.registry import Format, find_format
from ftl_runner.data.length_bins import even_top, power_top
from ftl_runner.data.messages import Conversation, Example, Segments, TokenRow
from ftl_runner.data.row_readers import RawRow
from ftl_runner.data.templates import ChatTemplate, TemplateFacts, probe_template, resolve_template
from ftl_runner.data.turns import MaskPolicy, Rendered, Span, TurnRenderer

_BATCH_CHARS = 1 << 19
"""Text tokenized in one call: encodings cost about 100 bytes a token while they live."""


@dataclass
class Tally:
    """What happened to rows, added up over chunks."""

    rows_read: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> rows."""
    dropped_tokens: Counter[str] = field(default_factory=Counter)
    long_rows: int = 0
    """Rows longer than ``sequence_len``, whatever was done about them."""
    long_tokens: int = 0
    excess_tokens: int = 0
    """Tokens of those rows beyond ``sequence_len``: what truncating loses."""
    longest_row: int = 0
    """Tokens of the longest of them."""
    long_lengths: Counter[int] = field(default_factory=Counter)
    """Rows over ``sequence_len``, in bins that double."""
    long_bins: Counter[int] = field(default_factory=Counter)
    """The same in bins of one width."""
    masked_tokens: int = 0
    """Trained tokens that truncation masked, because their turn was cut."""
    notes: Counter[str] = field(default_factory=Counter)
    """What the chat template left out -> rows."""

    def add(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.dropped.update(other.dropped)
        self.dropped_tokens.update(other.dropped_tokens)
        self.notes.update(other.notes)
        self.long_lengths.update(other.long_lengths)
        self.long_bins.update(other.long_bins)
        self.longest_row = max(self.longest_row, other.longest_row)
        for name in ("rows_read", "long_rows", "long_tokens", "excess_tokens", "masked_tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True)
class Rejected:
    """A bad row: its index in the reader and what is wrong."""

    index: int
    error: RowError


@dataclass(frozen=True)
class LengthRule:
    """Which lengths are kept, in tokens."""

    sequence_len: int
    strategy: Literal["drop", "truncate", "raise"] = "drop"
    min_len: int = 2


class RowConverter:
    """Everything about one dataset entry that rows need on their way to tokens."""

    def __init__(self, spec: DatasetSpec, data: DataSection, tokenizer: Any, rule: LengthRule) -> None:
        self.rule = rule
        self._format: Format = find_format(spec, data)
        self._tokenizer = tokenizer
        self._spec, self._data = spec, data
        self._bos = tokenizer.bos_token if _adds_bos(tokenizer) else None
        self._eos = tokenizer.eos_token
        self._turns: TurnRenderer | None = None
        self._encoder: BatchEncoder | None = None
        self.warnings: list[str] = []
        self.template: ChatTemplate | None = None
        if uses_template(spec):
            self._turns = self.turn_renderer()

    def convert(self, rows: Sequence[RawRow], first_index: int) -> tuple[list[Encoded], list[Rejected], Tally]:
        """Encoded rows that are kept, bad rows, and the tally. ``first_index`` is the index of ``rows[0]``."""
        tally, rejected = Tally(), list[Rejected]()
        kept: list[Encoded] = []
        batch: list[Rendered] = []
        where: list[int] = []
        size = 0
        for index, row in enumerate(rows, start=first_index):
            if row is None:
                continue
            tally.rows_read += 1
            try:
                example = self._example(row)
                if isinstance(example, TokenRow):
                    self._keep(_given_tokens(example), False, index, kept, rejected, tally)
                    continue
                batch.append(self.render(example))
            except RowError as error:
                rejected.append(Rejected(index, error))
                continue
            tally.notes.update(batch[-1].notes)
            where.append(index)
            size += len(batch[-1].text)
            if size >= _BATCH_CHARS:
                self._flush(batch, where, kept, rejected, tally)
                batch, where, size = [], [], 0
        self._flush(batch, where, kept, rejected, tally)
        return kept, sorted(rejected, key=lambda bad: bad.index), tally

    def render(self, example: Conversation | Segments) -> Rendered:
        """Text and trained spans of a row."""
        if isinstance(example, Conversation):
            if self._turns is None:
                self._turns = self.turn_renderer()
            return self._turns.render(example)
        return render_segments(
            example,
            bos=self._bos,
            eos=self._eos,
            train_on_inputs=self._data.train_on_inputs,
            train_eos=self._spec.train_on_eos != "none",
        )

    def example(self, row: RawRow) -> Example:
        """What the format makes of a row.

        Raises:
            RowError: the row is bad.
        """
        if row is None:
            raise RowError("the line is blank")
        return self._example(row)

    def turn_renderer(self) -> TurnRenderer:
        """The renderer of conversations for this entry, with its template and mask policy."""
        spec, data = self._spec, self._data
        name = spec.chat_template or data.chat_template
        jinja = spec.chat_template_jinja or (data.chat_template_jinja if not spec.chat_template else None)
        jinja = jinja or (data.chat_template_jinja if name == "jinja" else None)
        kwargs = {**(data.chat_template_kwargs or {}), **(spec.chat_template_kwargs or {})}
        template = resolve_template(self._tokenizer, name, jinja=jinja, kwargs=kwargs)
        special = [added.content for added in self._tokenizer.added_tokens_decoder.values()]
        facts = probe_template(template, [*special, *(data.eot_tokens or ())])
        self.template = template
        return TurnRenderer(template, facts, self._policy(template, facts))

    def _policy(self, template: ChatTemplate, facts: TemplateFacts) -> MaskPolicy:
        spec, data, eos = self._spec, self._data, self._eos
        eot = tuple(data.eot_tokens or ())
        for token in eot:
            ids = self._tokenizer.encode(token, add_special_tokens=False)
            if len(ids) != 1:
                raise DataError(
                    f"eot_tokens: {token!r} is {len(ids)} tokens in this tokenizer, not one",
                    "add it under tokens: or choose the token that the chat template writes",
                )
        self.warnings += _terminator_warnings(template, facts, eot)
        if not eot and facts.terminator:
            eot = (facts.terminator,)
        if eos in (data.eot_tokens or ()) and spec.train_on_eot and (spec.train_on_eos or "turn") != spec.train_on_eot:
            raise DataError(
                f"{eos!r} is the end-of-sequence token and among eot_tokens, but train_on_eos "
                f"({spec.train_on_eos or 'turn'}) and train_on_eot ({spec.train_on_eot}) differ",
                "take it out of eot_tokens, or give both the same value",
            )
        roles = spec.roles_to_train
        legacy = roles is not None and not roles and spec.train_on_eos is None and spec.train_on_eot is None
        on_eos = spec.train_on_eos or "turn"
        return MaskPolicy(
            roles_to_train=("assistant",) if roles is None else tuple(roles),
            train_on_inputs=data.train_on_inputs,
            train_on_eos=on_eos,
            train_on_eot=spec.train_on_eot or on_eos,
            eos_token=eos,
            eot_tokens=eot,
            last_turn_only=legacy,
        )

    def _example(self, row: RawRow) -> Example:
        if isinstance(row, RowError):
            raise row
        assert row is not None
        return self._format(row)

    def make_ready(self) -> None:
        """Load what is loaded at the first row, in a process that others are forked from."""
        self._batch_encoder().make_ready()

    def _batch_encoder(self) -> BatchEncoder:
        if self._encoder is None:
            self._encoder = BatchEncoder(self._tokenizer)
        return self._encoder

    def _flush(
        self,
        batch: Sequence[Rendered],
        where: Sequence[int],
        kept: list[Encoded],
        rejected: list[Rejected],
        tally: Tally,
    ) -> None:
        if not batch:
            return
        for rendered, encoded, index in zip(batch, self._batch_encoder().encode(batch), where, strict=True):
            self._keep(encoded, rendered.splittable, index, kept, rejected, tally)

    def _keep(
        self,
        row: Encoded,
        splittable: bool,
        index: int,
        kept: list[Encoded],
        rejected: list[Rejected],
        tally: Tally,
    ) -> None:
        limit, length = self.rule.sequence_len, len(row.input_ids)
        parts = [row]
        if length > limit and splittable:
            parts = [_cut(row, start, start + limit) for start in range(0, length, limit)]
        elif length > limit:
            tally.long_rows += 1
            tally.longest_row = max(tally.longest_row, length)
            tally.long_lengths[power_top(length)] += 1
            tally.long_bins[even_top(length, limit)] += 1
            tally.long_tokens += length
            tally.excess_tokens += length - limit
            if self.rule.strategy == "raise":
                rejected.append(Rejected(index, _too_long(length, limit)))
                return
            if self.rule.strategy == "drop":
                tally.dropped["too_long"] += 1
                tally.dropped_tokens["too_long"] += length
                return
            parts = [_truncate(row, limit, tally)]
        for part in parts:
            reason = self._refusal(part)
            if reason is None:
                kept.append(part)
            else:
                tally.dropped[reason] += len(parts) == 1
                tally.dropped_tokens[reason] += len(part.input_ids)

    def _refusal(self, row: Encoded) -> str | None:
        if len(row.input_ids) < self.rule.min_len:
            return "too_short"
        return None if (row.labels != IGNORE_INDEX).any() else "no_trained_token"


def _terminator_warnings(template: ChatTemplate, facts: TemplateFacts, eot: Sequence[str]) -> list[str]:
    missing = [token for token in eot if token not in template.source and token not in facts.sample]
    warnings = [f"eot_tokens: chat template {template.name!r} never writes {token!r}" for token in missing]
    if facts.terminator is None and len(missing) == len(eot):
        warnings.append(
            f"chat template {template.name!r} writes no special token behind an answer: the model will not learn "
            "to stop"
        )
    return warnings


def uses_template(spec: DatasetSpec) -> bool:
    """Whether rows of this type are conversations for certain (a Python function may return them too)."""
    return isinstance(spec.type, str) and spec.type.split(":")[0] in (
        "chat_template",
        "chat_template.default",
        "messages.chat",
        "llama2_chat",
    )


def render_segments(
    example: Segments, *, bos: str | None, eos: str | None, train_on_inputs: bool, train_eos: bool
) -> Rendered:
    """Segments end to end, with bos and eos where the format asks for them."""
    texts: list[str] = []
    spans: list[Span] = []
    position = 0
    parts = [(part.text, part.train or (train_on_inputs and example.add_eos)) for part in example.parts]
    if example.add_bos and bos and parts and not parts[0][0].startswith(bos):
        parts.insert(0, (bos, False))
    if example.add_eos and eos and parts and not parts[-1][0].endswith(eos):
        parts.append((eos, parts[-1][1] and train_eos))
    for text, train in parts:
        end = position + len(text)
        if train and end > position:
            if spans and spans[-1].end == position:
                spans[-1] = Span(spans[-1].start, end, spans[-1].turn)
            else:
                spans.append(Span(position, end, len(spans)))
        texts.append(text)
        position = end
    return Rendered("".join(texts), spans, example.splittable)


def _adds_bos(tokenizer: Any) -> bool:
    bos = getattr(tokenizer, "bos_token_id", None)
    if bos is None:
        return False
    ids = tokenizer("a", add_special_tokens=True)["input_ids"]
    return bool(ids) and ids[0] == bos


def _given_tokens(row: TokenRow) -> Encoded:
    labels = np.array(row.labels, dtype=np.int32)
    if len(labels):
        labels[0] = IGNORE_INDEX
    trained = labels != IGNORE_INDEX
    if trained[1:].all():  # a document, not an answer: a cut part is still worth training
        return Encoded(np.array(row.input_ids, dtype=np.int32), labels, np.full(len(labels), -1, dtype=np.int32))
    runs = np.cumsum(np.diff(trained, prepend=False))  # odd inside each stretch of trained tokens
    turns = np.where(trained, runs, -1).astype(np.int32)
    return Encoded(np.array(row.input_ids, dtype=np.int32), labels, turns)


def _cut(row: Encoded, start: int, stop: int) -> Encoded:
    labels = row.labels[start:stop].copy()
    if len(labels):
        labels[0] = IGNORE_INDEX
    return Encoded(row.input_ids[start:stop], labels, row.turns[start:stop])


def _truncate(row: Encoded, limit: int, tally: Tally) -> Encoded:
    """The first ``limit`` tokens. A trained turn that the cut goes through is not trained: it would lack its end."""
    part = _cut(row, 0, limit)
    beyond = np.unique(row.turns[limit:])
    half = np.isin(part.turns, beyond[beyond >= 0]) & (part.labels != IGNORE_INDEX)
    tally.masked_tokens += int(half.sum())
    part.labels[half] = IGNORE_INDEX
    return part


def _too_long(length: int, limit: int) -> RowError:
    return RowError(
        f"{length} tokens are more than sequence_len {limit}",
        "excess_length_strategy: drop or truncate, or a larger sequence_len",
    )
