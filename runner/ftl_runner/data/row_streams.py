"""Rows of a source from its first to its last, in constant memory: nothing is indexed, unpacked or downloaded first.

A file is cut into blocks of a few megabytes. A block that holds none of the wanted rows is passed over without being
parsed, so that several processes can share a stream out, and a resumed run finds its row, at the speed of reading.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias
from urllib.parse import urlsplit

from ftl_runner.data.errors import DataError
from ftl_runner.data.files import LocalFile, compression_of, csv_options, is_json_array, not_csv, parse_text_line
from ftl_runner.data.hub import HubDataset
from ftl_runner.data.origins import Origin, SavedDataset
from ftl_runner.data.remote import RemoteFile, RemoteSavedDataset, may_pass, reading
from ftl_runner.data.row_readers import RawRow, Reader, parse_json_line
from ftl_runner.data.synthetic import SYNTHETIC, SyntheticRows

_BLOCK_BYTES = 1 << 22
_BLOCK_ROWS = 1000
_TRIES = 5


class Block(Protocol):
    """Some rows in a row, not parsed yet."""

    def __len__(self) -> int: ...

    def rows(self, start: int, step: int) -> Iterator[RawRow]:
        """Rows ``start``, ``start + step``, ... of the block."""
        ...


@dataclass(frozen=True)
class RowStream:
    """One origin, read from its start. ``blocks`` opens it anew."""

    name: str
    blocks: Callable[[], Iterator[Block]]
    unit: str = "row"
    first_line: int = 1
    """What the first row is called."""

    def place(self, index: int) -> str:
        """``data.jsonl, line 3``: where a user finds row ``index``."""
        return f"{self.name}, {self.unit} {index + self.first_line}"


Placed: TypeAlias = tuple[RowStream, int, RawRow]
"""A row with the stream it is from and its index there."""


def open_streams(origins: Sequence[Origin]) -> list[RowStream]:
    """The streams of an entry's origins.

    Raises:
        DataError: an origin that cannot be read from its start to its end.
    """
    return [_stream_of(origin) for origin in origins]


def read_rows(streams: Sequence[RowStream], start: int, step: int, stop: int | None = None) -> Iterator[Placed]:
    """Rows ``start``, ``start + step``, ... below ``stop`` of streams end to end."""
    wanted, position = start, 0
    for stream in streams:
        base = position
        for position, block in _counted_blocks(stream, base):
            if wanted < position + len(block):
                for row in block.rows(wanted - position, step):
                    if stop is not None and wanted >= stop:
                        return
                    yield stream, wanted - base, row
                    wanted += step
            position += len(block)
            if stop is not None and wanted >= stop:
                return


def _counted_blocks(stream: RowStream, base: int) -> Iterator[tuple[int, Block]]:
    """Blocks with the index of their first row; where the network fails for a while, the stream is opened again."""
    position, faults = base, 0
    while True:
        seen = base
        try:
            for block in stream.blocks():
                end = seen + len(block)
                if end > position:
                    yield position, _Tail(block, position - seen) if position > seen else block
                    position, faults = end, 0
                seen = end
            return
        except DataError as error:
            faults += 1
            if faults == _TRIES or error.__cause__ is None or not may_pass(error.__cause__):
                raise
            time.sleep(2.0 ** (faults - 2))  # 0.5, 1, 2, 4 s


@dataclass(frozen=True)
class _Tail:
    """A block without its first rows, which have been seen."""

    block: Block
    start: int

    def __len__(self) -> int:
        return len(self.block) - self.start

    def rows(self, start: int, step: int) -> Iterator[RawRow]:
        return self.block.rows(self.start + start, step)


def _stream_of(origin: Origin) -> RowStream:
    if isinstance(origin, LocalFile):
        return _file_stream(lambda: origin.path.open("rb"), str(origin.path), origin.name, origin.kind)
    if isinstance(origin, RemoteFile):
        return _file_stream(origin.open_bytes, urlsplit(origin.path).path, origin.url, origin.kind)
    if isinstance(origin, RemoteSavedDataset):
        files = origin.arrow_files()
        return RowStream(origin.url, lambda: (block for file in files for block in _stream_of(file).blocks()))
    if isinstance(origin, HubDataset):
        return RowStream(origin.title, lambda: _column_blocks(origin.batches(_BLOCK_ROWS)))
    if isinstance(origin, SyntheticRows):
        return RowStream(SYNTHETIC, lambda: _reader_blocks(origin))
    assert isinstance(origin, SavedDataset)
    return RowStream(str(origin.folder), lambda: _reader_blocks(origin.open_mapped()))


def _file_stream(open_bytes: Callable[[], Any], path: str, name: str, kind: str) -> RowStream:
    compression = compression_of(path) if kind != "parquet" else None

    def blocks() -> Iterator[Block]:
        with reading(name), open_bytes() as packed:
            if compression is None:
                yield from _BLOCKS[kind](packed, name, path)
                return
            import fsspec

            with fsspec.compression.compr[compression](packed, mode="r") as plain:
                yield from _BLOCKS[kind](plain, name, path)

    unit = {"json": "line", "text": "line", "csv": "record"}.get(kind, "row")
    return RowStream(name, blocks, unit, first_line=2 if kind == "csv" else 1)


@dataclass(frozen=True)
class _Lines:
    lines: Sequence[bytes]
    parse: Callable[[bytes], RawRow]

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self, start: int, step: int) -> Iterator[RawRow]:
        return map(self.parse, self.lines[start::step])


@dataclass(frozen=True)
class _Table:
    """A pyarrow table or batch that is loaded when a row of it is wanted."""

    num_rows: int
    load: Callable[[], Any]

    def __len__(self) -> int:
        return self.num_rows

    def rows(self, start: int, step: int) -> Iterator[RawRow]:
        table = self.load()
        for first in range(start, self.num_rows, _BLOCK_ROWS * step):
            yield from table.take(list(range(first, min(first + _BLOCK_ROWS * step, self.num_rows), step))).to_pylist()


def _line_blocks(file: Any, parse: Callable[[bytes], RawRow]) -> Iterator[Block]:
    rest = b""
    first = True
    while block := file.read(_BLOCK_BYTES):  # readlines() with a limit is missing on fsspec's and zstandard's files
        if first:
            block, first = block.removeprefix(b"\xef\xbb\xbf"), False
        *lines, rest = (rest + block).split(b"\n") if b"\n" in block else (rest + block,)
        if lines:
            yield _Lines([line.removesuffix(b"\r") for line in lines], parse)
    if rest:
        yield _Lines([rest.removesuffix(b"\r")], parse)


def _json_blocks(file: Any, name: str, path: str) -> Iterator[Block]:
    blocks = _line_blocks(file, parse_json_line)
    first = next(blocks, None)
    if first is None:
        raise DataError(f"{name} is empty", "a dataset needs rows")
    assert isinstance(first, _Lines)
    if is_json_array(first.lines):
        raise DataError(
            f"{name} is one JSON value, which has to be read as a whole: it cannot be streamed",
            "write one object a line (jsonl), or leave streaming out",
        )
    yield first
    yield from blocks


def _text_blocks(file: Any, name: str, path: str) -> Iterator[Block]:
    return _line_blocks(file, parse_text_line)


def _csv_blocks(file: Any, name: str, path: str) -> Iterator[Block]:
    import pyarrow as pa
    from pyarrow import csv

    head = file.read(_BLOCK_BYTES)
    parse, convert = csv_options(path, pa.BufferReader(head), name)
    read = csv.ReadOptions(block_size=_BLOCK_BYTES)
    try:
        source = _Rejoined(head, file)
        with csv.open_csv(source, read_options=read, parse_options=parse, convert_options=convert) as reader:
            yield from map(_loaded, reader)
    except pa.ArrowException as error:
        raise not_csv(name, error) from error


class _Rejoined:
    """A file of which the head has been read; decompressors cannot go back."""

    closed = False

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head, self._rest = io.BytesIO(head), rest

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        return self._head.read(size) or bytes(self._rest.read(size))


def _parquet_blocks(file: Any, name: str, path: str) -> Iterator[Block]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        parquet = pq.ParquetFile(file)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{name} is not a Parquet file: {error}") from error
    for group in range(parquet.metadata.num_row_groups):
        count = parquet.metadata.row_group(group).num_rows
        yield _Table(count, partial(parquet.read_row_group, group, use_threads=False))


def _arrow_blocks(file: Any, name: str, path: str) -> Iterator[Block]:
    import pyarrow as pa

    try:
        yield from map(_loaded, pa.ipc.open_stream(file))
        return
    except pa.ArrowException:
        file.seek(0)
    try:
        reader = pa.ipc.open_file(file)
    except pa.ArrowException as error:
        raise DataError(f"{name} is neither an Arrow stream nor an Arrow file") from error
    yield from (_loaded(reader.get_batch(number)) for number in range(reader.num_record_batches))


def _loaded(batch: Any) -> _Table:
    return _Table(batch.num_rows, lambda: batch)


@dataclass(frozen=True)
class _Listed:
    values: Sequence[RawRow]

    def __len__(self) -> int:
        return len(self.values)

    def rows(self, start: int, step: int) -> Iterator[RawRow]:
        return iter(self.values[start::step])


def _column_blocks(batches: Iterator[dict[str, list[Any]]]) -> Iterator[Block]:
    for columns in batches:
        names = list(columns)
        yield _Listed([dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)])


def _reader_blocks(reader: Reader) -> Iterator[Block]:
    for start in range(0, len(reader), _BLOCK_ROWS):
        yield _Slice(reader, start, min(start + _BLOCK_ROWS, len(reader)))


@dataclass(frozen=True)
class _Slice:
    reader: Reader
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    def rows(self, start: int, step: int) -> Iterator[RawRow]:
        return iter(self.reader.read(self.start, self.stop)[start::step])


_BLOCKS: dict[str, Callable[[Any, str, str], Iterator[Block]]] = {
    "json": _json_blocks,
    "text": _text_blocks,
    "csv": _csv_blocks,
    "parquet": _parquet_blocks,
    "arrow": _arrow_blocks,
}
