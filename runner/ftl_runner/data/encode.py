"""Text with trained spans -> token ids and labels, a batch at a time.

One batched tokenization; then labels by numpy over the whole batch. Where a token would reach over an exact span
end (a template's newline and the content's own first newline merge into one token), that row is tokenized again in
parts, so that a trained span begins where the inference prompt ends and the trained text is exact to the byte.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ftl_runner.data.fast_bpe import Encode, fast_encoder
from ftl_runner.data.pieces import TextCutter
from ftl_runner.data.token_lengths import keeps_text, token_byte_lengths
from ftl_runner.data.turns import Rendered, Span

IGNORE_INDEX = -100
"""The label that cross entropy leaves out (PyTorch's default)."""

_HUGE_CHARS = 1 << 22
_PART_CHARS = 1 << 18
_WORD = re.compile(r"\w \w")

_FAST_FROM_CHARS = 1_000_000
"""The other encoder is ready after 0.3 s, in which ``tokenizers`` encodes about a million characters."""

Ints: TypeAlias = npt.NDArray[np.int32]
Longs: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Encoded:
    """One row. ``turns`` gives the trained turn of each token, -1 for untrained ones."""

    input_ids: Ints
    labels: Ints
    turns: Ints
    extra: str = ""
    """What travels with the tokens as text: one line of JSON."""


class BatchEncoder:
    """Tokenizes rendered rows with one tokenizer; holds its token length table."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", None) if tokenizer.is_fast else None
        self._lengths: Longs | None = None
        self._fast: Encode | None = None
        self._chars = 0
        self._splits_cleanly = False
        """Parts of a text tokenize as parts: no space is put before each of them."""
        self._rejoins_space = False
        """Two line breaks are other tokens before a word than at the end of a text: GPT-2's way."""
        self._prefix = 0
        """Bytes that the tokenizer puts before a text: the space of Llama 2."""
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
            self._lengths = token_byte_lengths(self._backend)
            if self._lengths is not None:
                probe = self._backend.encode("a", add_special_tokens=False).ids
                self._prefix = max(0, int(self._lengths[probe].sum()) - 1)
                self._splits_cleanly = int(self._lengths[probe].sum()) == 1
                self._rejoins_space = self._splits_cleanly and not _same_start(self._backend, "x\n\n", "x\n\ny")
        self._keeps_text = keeps_text(self._backend) if self._backend is not None else None
        self._cutter = TextCutter(self._backend) if self._splits_cleanly else None

    def encode(self, rows: Sequence[Rendered]) -> list[Encoded]:
        """Ids and labels of each row, in order. The first token is never trained: nothing predicts it."""
        if self._backend is None:
            return [self._encode_in_parts(row) for row in rows]
        if self._lengths is None:
            return [self._encode_with_offsets(row) for row in rows]
        return self._encode_by_lengths(rows, self._lengths)

    def _encode_by_lengths(self, rows: Sequence[Rendered], table: Longs) -> list[Encoded]:
        if self._splits_cleanly and any(len(row.text) > _HUGE_CHARS for row in rows):
            return [
                self._encode_huge(row, table) if len(row.text) > _HUGE_CHARS else self.encode([row])[0] for row in rows
            ]
        ids = self._ids_of_rows(rows)
        measures = [_byte_measures(row) for row in rows]
        usable = [self._keeps_text is None or row.text.isascii() or self._keeps_text(row.text) for row in rows]
        batch = _Batch.build(ids, measures, table, self._prefix, usable)
        marks = batch.mark(rows, measures)
        result: list[Encoded] = []
        for number, row in enumerate(rows):
            if not batch.exact[number]:
                result.append(self._encode_with_offsets(row))
            elif number in marks.split_at:
                result.append(self._split_and_encode(row, marks.split_at[number], table))
            else:
                part = slice(batch.bounds[number], batch.bounds[number + 1])
                result.append(_labelled(ids[number], marks.turns[part]))
        return result

    def _ids_of_rows(self, rows: Sequence[Rendered]) -> list[Ints]:
        """Ids of whole rows; split behind whitespace that would tokenize otherwise at the end of a prompt."""
        if not self._rejoins_space:
            return self._ids([row.text for row in rows])
        parts = [_parts(row.text, [span.start for span in row.spans if _follows_space(row, span)]) for row in rows]
        ids = iter(self._ids([text for texts in parts for text in texts]))
        return [np.concatenate([next(ids) for _ in texts]) if texts else np.zeros(0, np.int32) for texts in parts]

    def _ids(self, texts: Sequence[str]) -> list[Ints]:
        assert self._backend is not None
        fast = self._fast_encoder(texts)
        found = [fast(text) if fast else None for text in texts]
        left = iter(self._ids_by_tokenizers([text for text, ids in zip(texts, found, strict=True) if ids is None]))
        return [next(left) if ids is None else ids for ids in found]

    def make_ready(self) -> None:
        """Do now what pays for much text only: before processes are forked that would each do it."""
        if self._chars < _FAST_FROM_CHARS and self._splits_cleanly:
            self._fast = fast_encoder(self._backend)
        self._chars = _FAST_FROM_CHARS

    def _fast_encoder(self, texts: Sequence[str]) -> Encode | None:
        """tiktoken, once there has been so much text that making it ready pays."""
        if self._chars < _FAST_FROM_CHARS:
            if self._chars + sum(map(len, texts)) >= _FAST_FROM_CHARS:
                self.make_ready()
            else:
                self._chars += sum(map(len, texts))
        return self._fast

    def _ids_by_tokenizers(self, texts: Sequence[str]) -> list[Ints]:
        assert self._backend is not None
        cut = self._cutter.cut(texts) if self._cutter else [[text] for text in texts]
        encodings = iter(self._backend.encode_batch_fast(list(chain.from_iterable(cut)), add_special_tokens=False))
        return [_joined_ids([next(encodings).ids for _ in pieces]) for pieces in cut]

    def _split_and_encode(self, row: Rendered, cuts: Sequence[int], table: Longs) -> Encoded:
        """Tokenize the row in parts that end at ``cuts`` (characters)."""
        if not self._splits_cleanly:
            return self._encode_with_offsets(row)
        ids = np.concatenate([ids for group in _groups(_parts(row.text, cuts)) for ids in self._ids(group)])
        measures = [_byte_measures(row)]
        batch = _Batch.build([ids], measures, table, 0, [True])
        if not batch.exact[0]:
            return self._encode_with_offsets(row)
        return _labelled(ids, batch.mark([row], measures).turns)

    def _encode_huge(self, row: Rendered, table: Longs) -> Encoded:
        """In parts that end before a word: the same tokens, and not gigabytes of encodings at a time."""
        edges = [edge for span in row.spans if span.exact for edge in (span.start, span.end)]
        starts = range(_PART_CHARS, len(row.text) - _PART_CHARS, _PART_CHARS)
        words = (_WORD.search(row.text, start, start + _PART_CHARS) for start in starts)
        return self._split_and_encode(row, [*edges, *(word.start() + 1 for word in words if word)], table)

    def _encode_with_offsets(self, row: Rendered) -> Encoded:
        """Through the tokenizer's own offsets: for text that it normalizes."""
        ids, starts, ends = self._offsets([row.text])
        cuts = [
            edge
            for span in row.spans
            for edge in (span.start, span.end)
            if span.exact and bool(np.any((starts < edge) & (ends > edge)))
        ]
        if cuts and self._splits_cleanly:
            ids, starts, ends = self._offsets(_parts(row.text, cuts))
        turns = np.full(len(ids), -1, dtype=np.int32)
        for span in row.spans:
            # Tokens without characters (a space that the tokenizer adds) belong to what follows them.
            inside = (starts >= span.start) & (ends <= span.end) & (starts < span.end)
            if span.exact:  # a token that begins with whitespace before the span, as in "[/INST]▁answer"
                for number in np.flatnonzero((starts < span.start) & (ends > span.start) & (ends <= span.end)):
                    inside[number] = not row.text[starts[number] : span.start].strip()
            turns[inside] = span.turn
        return _labelled(ids, turns)

    def _offsets(self, parts: Sequence[str]) -> tuple[Ints, Longs, Longs]:
        """Ids and first and last characters of each token, in the text that ``parts`` make together."""
        assert self._backend is not None
        base = 0
        ids: list[int] = []
        offsets: list[Longs] = []
        for part, encoding in zip(parts, self._backend.encode_batch(parts, add_special_tokens=False), strict=True):
            ids.extend(encoding.ids)
            offsets.append(np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2) + base)
            base += len(part)
        pairs = np.concatenate(offsets)
        return np.array(ids, dtype=np.int32), pairs[:, 0], pairs[:, 1]

    def _encode_in_parts(self, row: Rendered) -> Encoded:
        """A tokenizer without a fast backend: each stretch of the text is tokenized by itself."""
        cuts = [edge for span in row.spans for edge in (span.start, span.end)]
        parts = _parts(row.text, cuts)
        tokens = [self._tokenizer.encode(part, add_special_tokens=False) for part in parts]
        ids = np.array([number for part in tokens for number in part], dtype=np.int32)
        whole = np.array(self._tokenizer.encode(row.text, add_special_tokens=False), dtype=np.int32)
        if not np.array_equal(ids, whole) and self._decode(ids) != row.text and self._decode(whole) == row.text:
            return self._encode_by_decoding(row, whole)  # a space is put before every part
        turns = np.full(len(ids), -1, dtype=np.int32)
        first = position = 0
        turn_at = {span.start: span.turn for span in row.spans}
        for part, numbers in zip(parts, tokens, strict=True):
            turns[first : first + len(numbers)] = turn_at.get(position, -1)
            first, position = first + len(numbers), position + len(part)
        return _labelled(ids, turns)

    def _encode_by_decoding(self, row: Rendered, ids: Ints) -> Encoded:
        """Whole tokens inside the spans; where a token ends is found by decoding the tokens up to it."""
        turns = np.full(len(ids), -1, dtype=np.int32)
        for span in row.spans:
            first, stop = (
                bisect_left(range(len(ids) + 1), edge, key=lambda count: len(self._decode(ids[:count])))
                for edge in (span.start, span.end)
            )
            stop -= len(self._decode(ids[:stop])) > span.end
            turns[first:stop] = span.turn
        return _labelled(ids, turns)

    def _decode(self, ids: Ints) -> str:
        return str(self._tokenizer.decode(ids.tolist(), clean_up_tokenization_spaces=False))


def _same_start(backend: Any, start: str, text: str) -> bool:
    first, whole = (backend.encode(each, add_special_tokens=False).ids for each in (start, text))
    return bool(whole[: len(first)] == first)


def _joined_ids(parts: Sequence[list[int]]) -> Ints:
    if len(parts) == 1:
        return np.array(parts[0], dtype=np.int32)
    return np.array(list(chain.from_iterable(parts)), dtype=np.int32)


def _parts(text: str, cuts: Sequence[int]) -> list[str]:
    edges = sorted({0, len(text), *cuts})
    return [text[a:b] for a, b in pairwise(edges)]


def _follows_space(row: Rendered, span: Span) -> bool:
    return span.exact and row.text[max(0, span.start - 2) : span.start].isspace() and span.start > 1


def _groups(parts: Sequence[str]) -> Iterator[list[str]]:
    """Parts in turn, as many at a time as may be in memory as encodings."""
    group: list[str] = []
    for part in parts:
        group.append(part)
        if sum(map(len, group)) > _HUGE_CHARS:
            yield group
            group = []
    if group:
        yield group


def _labelled(ids: Ints, turns: Ints) -> Encoded:
    labels = np.where(turns >= 0, ids, np.int32(IGNORE_INDEX)).astype(np.int32)
    if len(labels):
        labels[0] = IGNORE_INDEX
    return Encoded(ids, labels, turns)


@dataclass(frozen=True, slots=True)
class _Measures:
    """Byte positions of a row's span ends."""

    total: int
    starts: list[int]
    ends: list[int]


def _byte_measures(row: Rendered) -> _Measures:
    text = row.text
    if text.isascii():
        return _Measures(len(text), [span.start for span in row.spans], [span.end for span in row.spans])
    marks = sorted({0, len(text), *(span.start for span in row.spans), *(span.end for span in row.spans)})
    bytes_at = {0: 0}
    for previous, mark in pairwise(marks):
        bytes_at[mark] = bytes_at[previous] + len(text[previous:mark].encode())
    starts = [bytes_at[span.start] for span in row.spans]
    return _Measures(bytes_at[len(text)], starts, [bytes_at[span.end] for span in row.spans])


@dataclass(frozen=True, slots=True)
class _Marks:
    turns: Ints
    split_at: dict[int, list[int]]
    """Row number -> characters where a token reaches over an exact span end."""


@dataclass(frozen=True, slots=True)
class _Batch:
    """All tokens of a batch end to end, with the bytes they begin at."""

    bounds: Longs
    """Row ``n`` holds tokens ``bounds[n]`` to ``bounds[n + 1]``."""
    token_starts: Longs
    """One more than tokens: the last entry is the end of the batch. Not decreasing."""
    exact: npt.NDArray[np.bool_]
    """Rows whose tokens add up to their text; the others count as empty here."""

    @classmethod
    def build(
        cls, ids: Sequence[Ints], measures: Sequence[_Measures], table: Longs, prefix: int, usable: Sequence[bool]
    ) -> _Batch:
        bounds = np.zeros(len(ids) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in ids], out=bounds[1:])
        lengths = table[np.concatenate(ids)]
        starts = _running_sum(lengths)
        widths = np.array([measure.total for measure in measures], dtype=np.int64)
        excess = starts[bounds[1:]] - starts[bounds[:-1]] - widths
        exact: npt.NDArray[np.bool_] = (excess == 0) & np.array(usable, dtype=bool)
        if prefix:
            prefixed = (excess == prefix) & (lengths[np.minimum(bounds[:-1], len(lengths) - 1)] >= prefix)
            prefixed &= np.array(usable, dtype=bool)
            lengths[bounds[:-1][prefixed]] -= prefix
            exact |= prefixed
            starts = _running_sum(lengths)
        if not exact.all():
            for number in np.flatnonzero(~exact):
                lengths[bounds[number] : bounds[number + 1]] = 0
            starts = _running_sum(lengths)
        return cls(bounds, starts, exact)

    def mark(self, rows: Sequence[Rendered], measures: Sequence[_Measures]) -> _Marks:
        """The trained turn of each token of the batch, and the rows where a token reaches over a span's end."""
        numbers = [n for n, row in enumerate(rows) if self.exact[n] for _ in row.spans]
        spans = [span for n, row in enumerate(rows) if self.exact[n] for span in row.spans]
        row_of = np.array(numbers, dtype=np.int64)
        firsts, first_hits = self._token_at(row_of, [b for n in dict.fromkeys(numbers) for b in measures[n].starts])
        lasts, last_hits = self._token_at(row_of, [b for n in dict.fromkeys(numbers) for b in measures[n].ends])
        lasts -= ~last_hits
        turns = np.full(int(self.bounds[-1]), -1, dtype=np.int32)
        for span, first, last in zip(spans, firsts.tolist(), lasts.tolist(), strict=True):
            turns[first:last] = span.turn
        split_at: dict[int, list[int]] = {}
        for order in np.flatnonzero(~first_hits | ~last_hits).tolist():
            span = spans[order]
            if span.exact:
                split_at.setdefault(numbers[order], []).extend((span.start, span.end))
        return _Marks(turns, split_at)

    def _token_at(self, row_of: Longs, row_bytes: Sequence[int]) -> tuple[Longs, npt.NDArray[np.bool_]]:
        """For a byte of each row the first token that begins at or behind it, and whether one begins exactly there."""
        positions = np.array(row_bytes, dtype=np.int64) + self.token_starts[self.bounds[row_of]]
        found = np.searchsorted(self.token_starts, positions, side="left")
        tokens = np.clip(found, self.bounds[row_of], self.bounds[row_of + 1])
        return tokens, self.token_starts[tokens] == positions


def _running_sum(lengths: Longs) -> Longs:
    sums = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=sums[1:])
    return sums
