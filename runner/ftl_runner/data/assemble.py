"""Tokenized chunks -> the prepared sets: order, deduplication, validation split, packing, Arrow files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ftl_runner.data.build import Built
from ftl_runner.data.encode import IGNORE_INDEX
from ftl_runner.data.pack import Packing, pack

Longs: TypeAlias = npt.NDArray[np.int64]
Ints: TypeAlias = npt.NDArray[np.int32]
_BATCH_TOKENS = 1 << 20
_ROW_BYTES = 8
"""Bytes of a token: its id and its label."""


class TokenStore:
    """All rows of a build, by one running number, read from the processes' files as they are needed.

    They are read, not mapped into memory: rows are wanted in random order, and every page of a mapped file that was
    touched would count as this process's memory.
    """

    def __init__(self, built: Sequence[Built]) -> None:
        self.lengths: Longs = _joined([part.lengths for part in built])
        self.num_trained: Longs = _joined([part.num_trained for part in built])
        self.hashes = [digest for part in built for digest in part.hashes]
        self.entry = np.repeat([part.chunk.entry for part in built], [len(part.lengths) for part in built])
        paths = {part.path: number for number, part in enumerate({part.path: part for part in built}.values())}
        self._file_of = np.repeat([paths[part.path] for part in built], [len(part.lengths) for part in built])
        self._offsets = _joined([part.offset + _ROW_BYTES * _before(part.lengths) for part in built])
        self._files = [path.open("rb", buffering=0) for path in paths]

    def __len__(self) -> int:
        return len(self.lengths)

    def read(self, rows: Longs) -> tuple[Ints, Ints]:
        """Ids and labels of some rows, end to end."""
        lengths = self.lengths[rows]
        starts = _before(lengths)
        ids, labels = np.empty(lengths.sum(), dtype=np.int32), np.empty(lengths.sum(), dtype=np.int32)
        places = zip(
            self._file_of[rows].tolist(), self._offsets[rows].tolist(), starts.tolist(), lengths.tolist(), strict=True
        )
        files = [file.fileno() for file in self._files]
        for number, offset, start, length in places:
            stop = start + length
            if os.preadv(files[number], [ids[start:stop].data, labels[start:stop].data], offset) != length * _ROW_BYTES:
                raise OSError(f"{self._files[number].name} is cut off")
        return ids, labels


def _before(lengths: Longs) -> Longs:
    """How many tokens come before each row."""
    return np.cumsum(lengths) - lengths


def _joined(parts: Sequence[Longs]) -> Longs:
    return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)


def order_rows(
    store: TokenStore, seed: int, *, shuffle: bool, shuffle_entries: bool, deduplicate: bool
) -> tuple[Longs, int]:
    """Row numbers in training order, and how many rows were dropped as duplicates."""
    rows = np.arange(len(store), dtype=np.int64)
    if deduplicate:
        seen: dict[bytes, int] = {}
        for number, digest in enumerate(store.hashes):
            seen.setdefault(digest, number)
        rows = np.fromiter(seen.values(), dtype=np.int64, count=len(seen))
    dropped = len(store) - len(rows)
    random = np.random.default_rng(seed)
    if shuffle_entries:
        entries = store.entry[rows]
        parts = [random.permutation(rows[entries == entry]) for entry in np.unique(entries)]
        rows = np.concatenate(parts) if parts else rows
    if shuffle:
        rows = random.permutation(rows)
    return rows, dropped


def split_rows(rows: Longs, val_set_size: float) -> tuple[Longs, Longs]:
    """Training and validation rows: the last ``val_set_size`` (a share below 1, a number of rows from 1 on)."""
    if not val_set_size:
        return rows, rows[:0]
    count = int(val_set_size) if val_set_size >= 1 else int(np.ceil(len(rows) * val_set_size))
    count = min(count, len(rows))
    return rows[: len(rows) - count], rows[len(rows) - count :]


@dataclass(frozen=True)
class Written:
    """What is in an Arrow file."""

    num_rows: int
    num_sequences: int
    tokens: int
    trained_tokens: int
    num_bins: int | None
    packing_efficiency: float | None


@dataclass(frozen=True)
class PackRule:
    """How rows are put into bins; the arguments of ``pack``."""

    capacity: int
    seed: int
    max_rows: int
    in_order: bool


def write_set(store: TokenStore, rows: Longs, path: Path, rule: PackRule | None) -> Written:
    """Write rows, packed into bins if ``rule`` says so, as an Arrow stream that datasets maps into memory."""
    lengths = store.lengths[rows]
    tokens, trained = int(lengths.sum()), int(store.num_trained[rows].sum())
    if rule is None:
        _write_arrow(path, len(rows), lambda number: rows[number : number + 1], store, positions=False)
        return Written(len(rows), len(rows), tokens, trained, None, None)
    packing: Packing = pack(lengths, rule.capacity, rule.seed, max_rows=rule.max_rows, in_order=rule.in_order)
    _write_arrow(path, len(packing), lambda number: rows[packing.bin(number)], store, positions=True)
    slots = len(packing) * rule.capacity
    return Written(len(packing), len(rows), tokens, trained, len(packing), tokens / slots if slots else None)


def _write_arrow(
    path: Path, count: int, members: Callable[[int], Longs], store: TokenStore, *, positions: bool
) -> None:
    import pyarrow as pa

    schema = _schema(positions)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        batch: list[Longs] = []
        size = 0
        for number in range(count):
            rows = members(number)
            batch.append(rows)
            size += int(store.lengths[rows].sum())
            if size >= _BATCH_TOKENS:
                writer.write_batch(_record_batch(batch, store, schema))
                batch, size = [], 0
        if batch:
            writer.write_batch(_record_batch(batch, store, schema))


def _schema(positions: bool) -> Any:
    """What ``datasets.Features`` makes of these columns, without the seconds that importing datasets takes."""
    import pyarrow as pa

    names = ["input_ids", "labels", *(["position_ids"] if positions else [])]
    number = {"dtype": "int32", "_type": "Value"}
    features = {**{name: {"feature": number, "_type": "List"} for name in names}, "length": number}
    columns = [*((name, pa.list_(pa.int32())) for name in names), ("length", pa.int32())]
    schema: pa.Schema = pa.schema(columns, {"huggingface": json.dumps({"info": {"features": features}})})
    return schema


def _record_batch(batch: Sequence[Longs], store: TokenStore, schema: Any) -> Any:
    import pyarrow as pa

    sizes = np.array([store.lengths[rows].sum() for rows in batch], dtype=np.int64)
    numbers = np.concatenate(batch)
    ids, labels = store.read(numbers)
    starts = _before(store.lengths[numbers])
    labels[starts] = IGNORE_INDEX  # the token before it belongs to another sequence
    arrays = {"input_ids": ids, "labels": labels}
    if "position_ids" in schema.names:
        spread = np.repeat(starts.astype(np.int32), store.lengths[numbers])
        arrays["position_ids"] = np.arange(len(ids), dtype=np.int32) - spread
    offsets = _arrow(np.concatenate([[0], np.cumsum(sizes)]))
    columns = [pa.ListArray.from_arrays(offsets, _arrow(values)) for values in arrays.values()]
    return pa.record_batch([*columns, _arrow(sizes)], schema=schema)


def _arrow(values: Longs | Ints) -> Any:
    """Numbers as Arrow's int32; ``pyarrow.array`` would import pandas to ask whether they are a series of its."""
    import pyarrow as pa

    numbers = np.ascontiguousarray(values, dtype=np.int32)
    return pa.Array.from_buffers(pa.int32(), len(numbers), [None, pa.py_buffer(numbers)])
