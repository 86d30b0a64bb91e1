"""Files of rows: what kind a file is, its content hash, and opening it for reading by row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftl_runner.data.errors import DataError, RowError, did_you_mean
from ftl_runner.data.row_readers import ArrowRows, JsonLines, Listed, ParquetRows, RawRow, Reader

_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2", ".xz": "xz"}
COMPRESSIONS = tuple(_COMPRESSIONS)
KINDS = {
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".txt": "text",
    ".text": "text",
    ".md": "text",
}


def file_kind(name: str, ds_type: str | None = None) -> str | None:
    """json, csv, parquet, arrow or text, from ``ds_type`` or the name; None when the name tells nothing."""
    if ds_type:
        kind = {"jsonl": "json", "txt": "text", "tsv": "csv"}.get(ds_type, ds_type)
        if kind not in KINDS.values():
            known = sorted(set(KINDS.values()))
            hint = did_you_mean(ds_type, known) or f"known: {', '.join(known)}"
            raise DataError(f"unknown ds_type {ds_type!r}", hint)
        return kind
    return KINDS.get(Path(_uncompressed_name(name)).suffix.lower())


def compression_of(name: str) -> str | None:
    """fsspec's name of the compression that a file's name tells; None for none."""
    return _COMPRESSIONS.get(Path(name.lower()).suffix)


def _uncompressed_name(name: str) -> str:
    for suffix in COMPRESSIONS:
        if name.lower().endswith(suffix):
            return name[: -len(suffix)]
    return name


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine. ``name`` is what the user calls it."""

    path: Path
    name: str
    kind: str

    def fingerprint(self) -> str:
        """Hash of the content, so that a copy elsewhere is the same data."""
        import xxhash

        digest = xxhash.xxh3_128()
        with self.path.open("rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
        return f"{self.kind}:{digest.hexdigest()}"

    def open(self, scratch: Path) -> Reader:
        """A reader of the rows; a compressed file is unpacked into ``scratch`` first."""
        path = self.path
        if path.stat().st_size == 0:
            raise DataError(f"{self.name} is empty", "a dataset needs rows")
        if path.name.lower().endswith(COMPRESSIONS) and self.kind != "parquet":
            path = _decompress(path, self.name, scratch)
        return _OPENERS[self.kind](path, self.name)


def _decompress(path: Path, name: str, scratch: Path) -> Path:
    import fsspec

    compression = compression_of(path.name)
    target = scratch / f"{abs(hash(str(path.resolve())))}-{_uncompressed_name(path.name)}"
    try:
        with fsspec.open(str(path), "rb", compression=compression) as packed, target.open("wb") as plain:
            while block := packed.read(1 << 22):
                plain.write(block)
    except Exception as error:  # each of the four libraries has its own exceptions
        hint = "the file is cut off or of another kind"
        raise DataError(f"{name} does not unpack as {compression}: {error}", hint) from error
    return target


def _open_json(path: Path, name: str) -> Reader:
    with path.open("rb") as file:
        head = file.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"{name} is UTF-16, not UTF-8", "save the file as UTF-8")
    if head.startswith(b"["):
        return Listed.open(path, name)
    first_line = head.split(b"\n", 1)[0].strip()
    if first_line in (b"{", b"") or (path.suffix == ".json" and not _is_json(first_line) and b"\n" in head):
        try:
            return Listed.open(path, name)  # one object, written over several lines
        except DataError:
            pass  # lines, of which the first is broken: the reader names it
    return JsonLines.open(path, name)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def is_json_array(lines: Sequence[bytes]) -> bool:
    """Whether the first lines of a file begin one JSON value of many lines, not one object a line."""
    first = next((line.strip() for line in lines if line.strip()), b"")
    return first.startswith(b"[") or first == b"{"


def _open_csv(path: Path, name: str) -> Reader:
    import pyarrow as pa
    from pyarrow import csv

    parse, convert = csv_options(path.name, path, name)
    try:
        table = csv.read_csv(path, parse_options=parse, convert_options=convert)
    except pa.ArrowException as error:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                bad = parse_text_line(line)
                if isinstance(bad, RowError):
                    raise DataError(f"{name}, line {number}: {bad.message}", bad.hint) from error
        raise not_csv(name, error) from error
    return ArrowRows(table, name, first_line=2, unit="record")


def csv_options(file_name: str, head: Any, name: str) -> tuple[Any, Any]:
    """pyarrow's parse and convert options for a file; ``head`` holds its first line at least."""
    import pyarrow as pa
    from pyarrow import csv

    separator = "\t" if Path(_uncompressed_name(file_name)).suffix.lower() == ".tsv" else ","
    parse = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
    try:
        with csv.open_csv(head, parse_options=parse) as reader:
            columns = reader.schema.names
    except pa.ArrowException as error:
        raise not_csv(name, error) from error
    # Everything stays text: a cell that reads 007, NA or true is what the user wrote.
    return parse, csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False)


def not_csv(name: str, error: Exception) -> DataError:
    """The error for a file that pyarrow cannot read as CSV."""
    hint = "the first line names the columns; cells with commas are quoted"
    return DataError(f"{name} is not a CSV file: {error}", hint)


def _open_arrow(path: Path, name: str) -> Reader:
    import pyarrow as pa

    source = pa.memory_map(str(path))
    for opener in (pa.ipc.open_stream, pa.ipc.open_file):
        try:
            return ArrowRows(opener(source).read_all(), name)
        except pa.ArrowException:
            source.seek(0)
    raise DataError(f"{name} is neither an Arrow stream nor an Arrow file")


def _open_text(path: Path, name: str) -> Reader:
    return _TextLines(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), name)


def parse_text_line(line: bytes) -> RawRow:
    """A line of a text file as a row; None for a blank one."""
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        return RowError(f"not UTF-8 (byte 0x{line[error.start]:02x} at {error.start + 1})", "save the file as UTF-8")
    return {"text": text} if text.strip() else None


@dataclass(frozen=True)
class _TextLines:
    lines: list[bytes]
    name: str

    def __len__(self) -> int:
        return len(self.lines)

    def read(self, start: int, stop: int) -> list[RawRow]:
        return [parse_text_line(line.removesuffix(b"\r")) for line in self.lines[start:stop]]

    def place(self, index: int) -> str:
        return f"{self.name}, line {index + 1}"


_OPENERS: dict[str, Callable[[Path, str], Reader]] = {
    "json": _open_json,
    "csv": _open_csv,
    "parquet": lambda path, name: ParquetRows.open(path, name),
    "arrow": _open_arrow,
    "text": _open_text,
}
