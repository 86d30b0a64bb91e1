"""Rows of one file or table, by index: nothing is read before it is asked for, so memory stays flat.

A reader is used by several processes at once (each opens files for itself) and says where a row stands, for errors.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.rows import Row, describe

RawRow: TypeAlias = Row | RowError | None
"""A row, or what is wrong with it, or None for a blank line."""


class Reader(Protocol):
    """Rows ``0`` to ``len(reader) - 1``."""

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> list[RawRow]:
        """Rows ``start`` to ``stop - 1``."""
        ...

    def place(self, index: int) -> str:
        """``data.jsonl, line 3``: where a user finds row ``index``."""
        ...


@dataclass(frozen=True)
class JsonLines:
    """A file of one JSON object a line."""

    path: Path
    name: str
    line_starts: npt.NDArray[np.int64]
    """Byte offsets of all lines, and the file's size at the end."""

    @classmethod
    def open(cls, path: Path, name: str) -> JsonLines:
        return cls(path, name, _line_starts(path))

    def __len__(self) -> int:
        return len(self.line_starts) - 1

    def read(self, start: int, stop: int) -> list[RawRow]:
        with self.path.open("rb") as file:
            file.seek(int(self.line_starts[start]))
            block = file.read(int(self.line_starts[stop] - self.line_starts[start]))
        lines = block.split(b"\n")[: stop - start]
        return [_parse_line(line, first=start + number == 0) for number, line in enumerate(lines)]

    def place(self, index: int) -> str:
        return f"{self.name}, line {index + 1}"


_BLOCK_BYTES = 1 << 24


def _line_starts(path: Path) -> npt.NDArray[np.int64]:
    found: list[npt.NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
    position = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            ends = np.flatnonzero(np.frombuffer(block, dtype=np.uint8) == 10)
            found.append(ends.astype(np.int64) + position + 1)
            position += len(block)
    starts = np.concatenate(found)
    return starts if starts[-1] == position else np.append(starts, np.int64(position))


def _parse_line(line: bytes, *, first: bool) -> RawRow:
    if first:
        line = line.removeprefix(b"\xef\xbb\xbf")
    if not line or line.isspace():
        return None
    try:
        row = json.loads(line)
    except UnicodeDecodeError as error:
        place = f"byte 0x{line[error.start]:02x} at {error.start + 1}"
        return RowError(f"not UTF-8 ({place})", "save the file as UTF-8", _as_it_stands(line))
    except (ValueError, RecursionError) as error:
        return RowError(f"not JSON: {error}", "every line is one complete JSON object", _as_it_stands(line))
    if not isinstance(row, dict):
        hint = 'every line is one object, as {"text": "..."}'
        return RowError(f"the line is {describe(row)}, not an object", hint, _as_it_stands(line))
    return row


def _as_it_stands(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Listed:
    """Rows that are in memory: a JSON file that is one array."""

    rows: Sequence[Any]
    name: str

    @classmethod
    def open(cls, path: Path, name: str) -> Listed:
        try:
            value = json.loads(path.read_bytes().decode("utf-8-sig"))
        except UnicodeDecodeError as error:
            raise DataError(f"{name} is not UTF-8 (byte {error.start + 1})", "save the file as UTF-8") from error
        except ValueError as error:
            raise DataError(f"{name} is not JSON: {error}") from error
        if isinstance(value, dict):
            lists = [item for item in value.values() if isinstance(item, list)]
            value = lists[0] if len(lists) == 1 else [value]
        if not isinstance(value, list):
            raise DataError(f"{name} holds {describe(value)}, not a list of rows")
        return cls(value, name)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, start: int, stop: int) -> list[RawRow]:
        return [
            row if isinstance(row, dict) else RowError(f"the row is {describe(row)}, not an object", None, str(row))
            for row in self.rows[start:stop]
        ]

    def place(self, index: int) -> str:
        return f"{self.name}, row {index + 1}"


@dataclass(frozen=True)
class ArrowRows:
    """A pyarrow table, mostly memory-mapped, or a Hugging Face dataset."""

    table: Any
    name: str
    first_line: int = 1
    """What the first row is called: 2 in a CSV file, behind its header."""
    unit: str = "row"

    def __len__(self) -> int:
        return len(self.table)

    def read(self, start: int, stop: int) -> list[RawRow]:
        if hasattr(self.table, "slice"):
            rows: list[RawRow] = self.table.slice(start, stop - start).to_pylist()
            return rows
        columns: dict[str, list[Any]] = self.table[start:stop]
        names = list(columns)
        return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def place(self, index: int) -> str:
        return f"{self.name}, {self.unit} {index + self.first_line}"


@dataclass(frozen=True)
class ParquetRows:
    """A Parquet file, one row group at a time."""

    path: Path
    name: str
    group_starts: npt.NDArray[np.int64]

    @classmethod
    def open(cls, path: Path, name: str) -> ParquetRows:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            metadata = pq.ParquetFile(path).metadata
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{name} is not a Parquet file: {error}") from error
        counts = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        return cls(path, name, np.cumsum([0, *counts], dtype=np.int64))

    def __len__(self) -> int:
        return int(self.group_starts[-1])

    def read(self, start: int, stop: int) -> list[RawRow]:
        import pyarrow.parquet as pq

        if stop <= start:
            return []
        first = int(np.searchsorted(self.group_starts, start, side="right")) - 1
        last = int(np.searchsorted(self.group_starts, stop, side="left"))
        table = pq.ParquetFile(self.path).read_row_groups(list(range(first, last)), use_threads=False)
        rows: list[RawRow] = table.slice(start - int(self.group_starts[first]), stop - start).to_pylist()
        return rows

    def place(self, index: int) -> str:
        return f"{self.name}, row {index + 1}"


@dataclass(frozen=True)
class Joined:
    """Readers end to end."""

    readers: tuple[Reader, ...]

    def __len__(self) -> int:
        return sum(map(len, self.readers))

    def read(self, start: int, stop: int) -> list[RawRow]:
        rows: list[RawRow] = []
        base = 0
        for reader in self.readers:
            first, last = max(start - base, 0), min(stop - base, len(reader))
            if first < last:
                rows.extend(reader.read(first, last))
            base += len(reader)
        return rows

    def place(self, index: int) -> str:
        for reader in self.readers:
            if index < len(reader):
                return reader.place(index)
            index -= len(reader)
        raise IndexError(index)


@dataclass(frozen=True)
class Picked:
    """Some rows of a reader, by ascending index: a split's slice, a shard."""

    reader: Reader
    indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def read(self, start: int, stop: int) -> list[RawRow]:
        wanted = self.indices[start:stop]
        if not len(wanted):
            return []
        first, last = int(wanted[0]), int(wanted[-1]) + 1
        if last - first > 4 * len(wanted):
            return [self.reader.read(int(index), int(index) + 1)[0] for index in wanted]
        block = self.reader.read(first, last)
        return [block[int(index) - first] for index in wanted]

    def place(self, index: int) -> str:
        return self.reader.place(int(self.indices[index]))
