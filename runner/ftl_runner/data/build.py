"""Tokenize all rows of some dataset entries, in processes, chunk by chunk, into plain files of int32.

Each process writes its tokens into one file of its own, chunk behind chunk; lengths stay in memory. Nothing of a row
travels between processes, and memory does not grow with the data but for a few numbers a row.
"""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from ftl_runner.data.convert import Rejected, Tally
from ftl_runner.data.encode import IGNORE_INDEX, Encoded
from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.row_readers import RawRow, Reader

_CHUNK_ROWS = 200
_MIN_CHUNKS_FOR_PROCESSES = 4

Progress: TypeAlias = Callable[[str], None]


class Converter(Protocol):
    """Turns rows of one dataset entry into tokens: ``RowConverter``, or ``PreferenceConverter``."""

    def convert(self, rows: Sequence[RawRow], first_index: int) -> tuple[list[Encoded], list[Rejected], Tally]:
        """Encoded rows that are kept, bad rows, and the tally."""
        ...

    def make_ready(self) -> None:
        """Load what the first row would have loaded."""
        ...


@dataclass(frozen=True)
class Entry:
    """A dataset entry that is ready to be read and converted."""

    name: str
    reader: Reader
    converter: Converter


@dataclass(frozen=True)
class Chunk:
    """Rows ``start`` to ``stop - 1`` of an entry: what one process converts at a time."""

    number: int
    entry: int
    start: int
    stop: int


@dataclass(frozen=True)
class BadRow:
    """The first row of a chunk that was rejected, for the error."""

    place: str
    error: RowError


@dataclass
class Built:
    """Tokens of one chunk: where they are and how long each row is."""

    chunk: Chunk
    path: Path
    offset: int
    """Bytes of ``path`` before this chunk's."""
    lengths: npt.NDArray[np.int64]
    num_trained: npt.NDArray[np.int64]
    hashes: list[bytes]
    tally: Tally
    first_bad: BadRow | None = None
    num_bad: int = 0
    extras: Path | None = None
    """The texts that travel with the rows, where there are any."""
    rejected: Path | None = None
    """JSON lines of the bad rows, when they are skipped."""


@dataclass(frozen=True)
class BuildOptions:
    """How to build; ``scratch`` takes the token files."""

    scratch: Path
    processes: int
    skip_bad_rows: bool = False
    hash_rows: bool = False
    """For exact deduplication."""


def build(entries: Sequence[Entry], options: BuildOptions, on_progress: Progress) -> list[Built]:
    """Tokenize every row; the chunks come back in the order of the data.

    Raises:
        DataError: the first bad row, unless bad rows are skipped.
    """
    chunks = list(_chunks(entries))
    total = sum(len(entry.reader) for entry in entries)
    built: list[Built] = []
    done = 0
    for result in _run(entries, chunks, options):
        if result.first_bad is not None and not options.skip_bad_rows:
            raise bad_row_error(result.first_bad, result.num_bad)
        built.append(result)
        done += result.chunk.stop - result.chunk.start
        on_progress(RowsDone(done, total))
    return built


class RowsDone(str):
    """A line of progress that a bar can be made of."""

    done: int
    total: int

    def __new__(cls, done: int, total: int) -> RowsDone:
        line = super().__new__(cls, f"tokenized {done:,} of {total:,} rows")
        line.done, line.total = done, total
        return line

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return self.done, self.total  # what pickle makes it from, on its way out of a worker


def bad_row_error(first: BadRow, count: int) -> DataError:
    """The first bad row as an error, with how many more there are close by."""
    more = f" ({count} bad rows in this part of the data)" if count > 1 else ""
    hint = f"{first.error.hint}; " if first.error.hint else ""
    return DataError(f"{first.place}: {first.error.message}{more}", f"{hint}--skip-bad-rows goes on without such rows")


def _chunks(entries: Sequence[Entry]) -> Iterator[Chunk]:
    number = 0
    for index, entry in enumerate(entries):
        for start in range(0, len(entry.reader), _CHUNK_ROWS):
            yield Chunk(number, index, start, min(start + _CHUNK_ROWS, len(entry.reader)))
            number += 1


def _run(entries: Sequence[Entry], chunks: Sequence[Chunk], options: BuildOptions) -> Iterator[Built]:
    processes = min(options.processes, len(chunks) // 2)
    if len(chunks) < _MIN_CHUNKS_FOR_PROCESSES or processes < 2 or not hasattr(os, "fork"):
        yield from (_build_chunk(entries, chunk, options) for chunk in chunks)
        return
    # Forked workers start with everything loaded (a tokenizer alone takes seconds); they use neither torch nor its
    # threads.
    for entry in entries:
        entry.converter.make_ready()
    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processes, context, _start_worker, (entries, options))
    try:
        yield from pool.map(_build_in_worker, chunks)
    except BrokenProcessPool as error:
        raise DataError(
            "a tokenizing process was killed, mostly for lack of memory", "lower dataset_num_proc"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[Sequence[Entry], BuildOptions] | None = None


def _start_worker(entries: Sequence[Entry], options: BuildOptions) -> None:
    global _worker
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes are the parallelism
    gc.freeze()  # or every full collection walks, and so copies, all that the parent has loaded
    _worker = (entries, options)


def _build_in_worker(chunk: Chunk) -> Built:
    assert _worker is not None
    return _build_chunk(_worker[0], chunk, _worker[1])


def _build_chunk(entries: Sequence[Entry], chunk: Chunk, options: BuildOptions) -> Built:
    entry = entries[chunk.entry]
    rows = entry.reader.read(chunk.start, chunk.stop)
    kept, rejected, tally = entry.converter.convert(rows, chunk.start)
    path = options.scratch / f"process-{os.getpid()}.tokens"
    offset = _append_tokens(path, kept)
    beside = options.scratch / f"chunk-{chunk.number:06d}"
    extras = beside.with_suffix(".extras")
    if any(row.extra for row in kept):
        _write_extras(extras, kept)
    return Built(
        chunk=chunk,
        path=path,
        offset=offset,
        lengths=np.array([len(row.input_ids) for row in kept], dtype=np.int64),
        num_trained=np.array([(row.labels != IGNORE_INDEX).sum() for row in kept], dtype=np.int64),
        hashes=_hashes(kept) if options.hash_rows else [],
        tally=tally,
        first_bad=BadRow(entry.reader.place(rejected[0].index), rejected[0].error) if rejected else None,
        num_bad=len(rejected),
        extras=extras if extras.exists() else None,
        rejected=_write_rejected(beside.with_suffix(".rejected"), entry.reader, rows, chunk.start, rejected)
        if rejected and options.skip_bad_rows
        else None,
    )


def _write_rejected(
    path: Path, reader: Reader, rows: Sequence[RawRow], first: int, rejected: Sequence[Rejected]
) -> Path:
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:  # half characters: as JSON writes them
        for bad in rejected:
            row = rows[bad.index - first]
            given = row.raw if isinstance(row, RowError) else row
            told = {"place": reader.place(bad.index), "error": bad.error.message, "hint": bad.error.hint, "row": given}
            file.write(json.dumps(told, ensure_ascii=False, default=str) + "\n")
    return path


def _append_tokens(path: Path, rows: Sequence[Encoded]) -> int:
    """Write ids and labels of each row, one behind the other: ``ids0 labels0 ids1 labels1 ...``; where they begin."""
    with path.open("ab") as file:
        offset = file.tell()
        if rows:
            file.write(np.concatenate([part for row in rows for part in (row.input_ids, row.labels)]).data)
    return offset


def _write_extras(path: Path, rows: Sequence[Encoded]) -> None:
    text = "".join(f"{row.extra}\n" for row in rows)
    path.write_text(text, encoding="utf-8", errors="surrogatepass")


class Extras:
    """The texts that travel with the rows of a chunk, by number; they stay in their file until they are asked for."""

    def __init__(self, path: Path) -> None:
        self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        self._ends = np.flatnonzero(self._bytes == 10)

    def __getitem__(self, number: int) -> str:
        start = int(self._ends[number - 1]) + 1 if number else 0
        return self._bytes[start : self._ends[number]].tobytes().decode("utf-8", "surrogatepass")


def _hashes(rows: Sequence[Encoded]) -> list[bytes]:
    import xxhash

    hashes: list[bytes] = []
    for row in rows:
        digest: Any = xxhash.xxh3_128(row.input_ids.tobytes())
        digest.update(row.labels.tobytes())
        digest.update(row.extra.encode("utf-8", "surrogatepass"))
        hashes.append(digest.digest())
    return hashes
