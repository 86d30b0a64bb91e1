"""Datasets that are read while training goes on, in constant memory: ``pretraining_dataset`` and ``streaming: true``.

Rows are drawn from the entries in turn, by weight, until a buffer of ``streaming_multipack_buffer_size`` samples is
full; the buffer is shuffled and packed, and handed out. After the last row it begins again. Everything follows from
the seed and the position, so that a stream goes on exactly where a :class:`Cursor` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.convert import RowConverter, Tally
from ftl_runner.data.encode import Encoded
from ftl_runner.data.errors import DataError
from ftl_runner.data.pack import pack
from ftl_runner.data.row_streams import Placed, RowStream, open_streams, read_rows
from ftl_runner.data.sources import find_source
from ftl_runner.data.splits import parse_rows

if TYPE_CHECKING:
    from ftl_config import Config

_DRAW_ROWS = 256
"""Rows converted at a time: enough for one batched tokenization, few enough to keep the entries mixed."""


def is_streamed(config: Config) -> bool:
    """Whether the training set is read while training goes on."""
    return config.data.streaming or config.data.pretraining_dataset is not None


def train_entries(config: Config) -> tuple[DatasetSpec, ...]:
    """The entries that are trained on; those of ``pretraining_dataset`` as completions."""
    entries = [
        spec.model_copy(update={"type": "completion", "field": spec.text_column or spec.field})
        for spec in config.data.pretraining_dataset or ()
    ]
    return (*entries, *(config.data.datasets or ()))


@dataclass(frozen=True)
class Cursor:
    """Where a shard of a stream goes on: in its ``passes``-th pass, ``rows`` of each entry were drawn before the
    buffer that is being handed out, and ``taken`` samples of that buffer were."""

    passes: int = 0
    rows: tuple[int, ...] = ()
    taken: int = 0


@dataclass(frozen=True)
class Shard:
    """Shard ``number`` of ``count``: of each entry, the rows number, number + count, number + 2 count, ..."""

    number: int = 0
    count: int = 1


@dataclass(frozen=True)
class StreamEntry:
    """A dataset entry, ready to be read."""

    streams: Sequence[RowStream]
    converter: RowConverter
    weight: float
    start: int
    stop: int | None
    shards: int
    shard: int

    def rows(self, shard: Shard, drawn: int) -> Iterator[Placed]:
        """A shard's rows, behind the first ``drawn`` of them."""
        step = self.shards * shard.count
        first = self.start + self.shard + self.shards * shard.number + step * drawn
        return read_rows(self.streams, first, step, self.stop)


@dataclass(frozen=True)
class Arrangement:
    """How a buffer of samples becomes training rows."""

    sequence_len: int
    seed: int
    shuffle: bool
    pack: bool
    isolate: bool
    """Packed samples do not see each other."""
    concatenate: bool
    max_rows: int
    in_order: bool

    def rows(self, buffer: Sequence[Encoded], seed: Sequence[int]) -> list[dict[str, Any]]:
        """Training rows with input_ids, labels and, packed and isolated, position_ids."""
        random = np.random.default_rng([self.seed, *seed])
        order = random.permutation(len(buffer)) if self.shuffle else np.arange(len(buffer))
        if self.pack:
            lengths = [len(buffer[number].input_ids) for number in order]
            packing_seed = int(random.integers(1 << 31))
            packing = pack(lengths, self.sequence_len, packing_seed, max_rows=self.max_rows, in_order=self.in_order)
            bins = [[buffer[order[number]] for number in packing.bin(b)] for b in range(len(packing))]
            return [_joined(members, positions=self.isolate) for members in bins]
        if self.concatenate and buffer:
            whole = _joined([buffer[number] for number in order], positions=False)
            starts = range(0, len(whole["input_ids"]), self.sequence_len)
            return [{name: value[at : at + self.sequence_len] for name, value in whole.items()} for at in starts]
        return [_joined([buffer[number]], positions=False) for number in order]


def _joined(members: Sequence[Encoded], *, positions: bool) -> dict[str, Any]:
    row = {
        "input_ids": np.concatenate([member.input_ids for member in members]),
        "labels": np.concatenate([member.labels for member in members]),
    }
    if positions:
        row["position_ids"] = np.concatenate([np.arange(len(member.input_ids)) for member in members])
    return row


@dataclass(frozen=True)
class StreamSet:
    """The training rows of a streamed config; each reader takes a shard of it."""

    entries: Sequence[StreamEntry]
    arrangement: Arrangement
    buffer_size: int
    tally: Tally = field(default_factory=Tally, compare=False)
    """What became of the rows that this process read."""
    sample: Sequence[Mapping[str, Any]] = ()
    """Training rows of the first rows of the data, to show."""
    skip_bad_rows: bool = False
    """Count bad rows and go on."""

    def rows(self, shard: Shard, cursor: Cursor) -> Iterator[tuple[dict[str, Any], Cursor]]:
        """Training rows without end, each with the cursor of what comes behind it.

        Raises:
            DataError: a bad row, an unreadable file, or a pass without a single row to train on.
        """
        for passes in range(cursor.passes, 1 << 60):
            drawn = cursor.rows if passes == cursor.passes and cursor.rows else (0,) * len(self.entries)
            taken = cursor.taken if passes == cursor.passes else 0
            found = sum(drawn)
            for buffer, start in self._buffers(shard, list(drawn)):
                rows = self.arrangement.rows(buffer, (passes, shard.number, *start))
                found += len(rows)
                for number in range(taken, len(rows)):
                    yield rows[number], Cursor(passes, start, number + 1)
                taken = 0
            if not found:
                raise self._empty(shard)

    def first_rows(self) -> list[dict[str, Any]]:
        """The training rows of the first buffer.

        Raises:
            DataError: as ``rows``.
        """
        for buffer, start in self._buffers(Shard(), [0] * len(self.entries)):
            return self.arrangement.rows(buffer, (0, 0, *start))
        raise self._empty(Shard())

    def _buffers(self, shard: Shard, drawn: list[int]) -> Iterator[tuple[list[Encoded], tuple[int, ...]]]:
        """One pass: full buffers, with how many rows of each entry had been drawn before. ``drawn`` counts on."""
        readers: dict[int, Iterator[Placed]] = {
            number: entry.rows(shard, drawn[number]) for number, entry in enumerate(self.entries)
        }
        while readers:
            start = tuple(drawn)
            buffer: list[Encoded] = []
            while readers and len(buffer) < self.buffer_size:
                buffer.extend(self._draw(readers, drawn))
            if buffer:
                yield buffer, start

    def _draw(self, readers: dict[int, Iterator[Placed]], drawn: list[int]) -> list[Encoded]:
        """Some rows, taken from the entries in turn, as samples; a reader at its end is dropped."""
        taken: dict[int, list[Placed]] = {}
        for _ in range(_DRAW_ROWS):
            if not readers:
                break
            number = min(readers, key=lambda key: ((drawn[key] + 1) / self.entries[key].weight, key))
            placed = next(readers[number], None)
            if placed is None:
                del readers[number]
                continue
            drawn[number] += 1
            taken.setdefault(number, []).append(placed)
        return [sample for number, rows in taken.items() for sample in self._converted(number, rows)]

    def _converted(self, number: int, rows: Sequence[Placed]) -> list[Encoded]:
        kept, rejected, tally = self.entries[number].converter.convert([row for _, _, row in rows], 0)
        self.tally.add(tally)
        if rejected and self.skip_bad_rows:
            self.tally.dropped["bad"] += len(rejected)
        elif rejected:
            stream, index, _ = rows[rejected[0].index]
            raise DataError(f"{stream.place(index)}: {rejected[0].error.message}", rejected[0].error.hint)
        return kept

    def _empty(self, shard: Shard) -> DataError:
        names = ", ".join(stream.name for entry in self.entries for stream in entry.streams)
        reasons = [f"{count:,} {reason.replace('_', ' ')}" for reason, count in self.tally.dropped.most_common()]
        told = f" ({', '.join(reasons)})" if reasons else ""
        if shard.count > 1:
            hint = f"the rows are shared out over {shard.count} readers (workers x dataloader_num_workers): use fewer"
        else:
            hint = "a dataset needs at least one row that is trained on"
        return DataError(f"nothing to train on in {names}: {self.tally.rows_read:,} rows read{told}", hint)


def first_stream_rows(spec: DatasetSpec, count: int) -> list[Placed]:
    """The first rows of an entry."""
    source = find_source(spec)
    start, stop = parse_rows(source.part, source.name)
    return list(islice(read_rows(open_streams(source.origins), start + (spec.skip or 0), 1, stop), count))
