"""Rows come out the same from every kind of source; what is wrong with one is said with file, row and fix."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.sources import find_source
from ftl_runner.data.splits import parse_slice, split_name
from tests.unit.data.data_support import write_jsonl

ROWS = [{"instruction": f"do {n}", "output": f"{n:03d} done, é\n"} for n in range(10)]


def read(tmp_path: Path, **spec: Any) -> list[Any]:
    scratch = tmp_path / "scratch"
    scratch.mkdir(exist_ok=True)
    reader = find_source(DatasetSpec(type="alpaca", **spec)).open(scratch)
    whole = reader.read(0, len(reader))
    assert [row for start in range(len(reader)) for row in reader.read(start, start + 1)] == whole
    return whole


def write_json(path: Path) -> Path:
    path.write_text(json.dumps(ROWS, indent=1))
    return path


def write_csv(path: Path) -> Path:
    lines = ['"' + row["instruction"] + '","' + row["output"] + '"\n' for row in ROWS]
    path.write_text("instruction,output\n" + "".join(lines), encoding="utf-8")
    return path


def write_parquet(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=3)
    return path


def write_arrow(path: Path) -> Path:
    import pyarrow as pa

    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def write_saved(path: Path) -> Path:
    from datasets import Dataset

    Dataset.from_list(ROWS).save_to_disk(str(path))
    return path


def write_packed(path: Path, opener: Callable[..., Any]) -> Path:
    with opener(path, "wb") as file:
        file.write("".join(json.dumps(row) + "\n" for row in ROWS).encode())
    return path


def write_zst(path: Path) -> Path:
    import zstandard

    path.write_bytes(zstandard.ZstdCompressor().compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", lambda path: write_jsonl(path, ROWS)),
        ("a.json", lambda path: write_jsonl(path, ROWS)),
        ("array.json", write_json),
        ("a.csv", write_csv),
        ("a.parquet", write_parquet),
        ("a.arrow", write_arrow),
        ("saved", write_saved),
        ("a.jsonl.gz", lambda path: write_packed(path, gzip.open)),
        ("a.jsonl.xz", lambda path: write_packed(path, lzma.open)),
        ("a.jsonl.zst", write_zst),
    ],
)
def test_every_kind_gives_the_same_rows(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    assert read(tmp_path, path=str(write(tmp_path / name))) == ROWS


def test_text_is_a_row_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\r\n\ntwo", encoding="utf-8")
    assert read(tmp_path, path=str(tmp_path / "a.txt")) == [{"text": "one"}, None, {"text": "two"}]


def test_a_directory_is_read_by_split(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    write_jsonl(folder / "train-0.jsonl", ROWS[:4])
    write_jsonl(folder / "train-1.jsonl", ROWS[4:7])
    write_jsonl(folder / "test.jsonl", ROWS[7:])
    assert read(tmp_path, path=str(folder)) == ROWS[:7]
    assert read(tmp_path, path=str(folder), split="test") == ROWS[7:]
    assert read(tmp_path, path=str(folder), data_files="*.jsonl") == [*ROWS[7:], *ROWS[:7]]
    with pytest.raises(DataError, match="no split 'validation'"):
        read(tmp_path, path=str(folder), split="validation")


def test_the_datasets_librarys_way_of_naming_files(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.data", ROWS)
    assert read(tmp_path, path="json", data_files=[str(path)]) == ROWS


@pytest.mark.parametrize(
    ("split", "wanted"),
    [("train[:30%]", ROWS[:3]), ("train[2:5]", ROWS[2:5]), ("train[-2:]", ROWS[8:]), ("train[50%:]", ROWS[5:])],
)
def test_slices_of_a_split(tmp_path: Path, split: str, wanted: list[Any]) -> None:
    assert read(tmp_path, path=str(write_jsonl(tmp_path / "a.jsonl", ROWS)), split=split) == wanted


def test_shards_share_the_rows_out(tmp_path: Path) -> None:
    path = str(write_jsonl(tmp_path / "a.jsonl", ROWS))
    parts = [read(tmp_path, path=path, shards=3, shards_idx=index) for index in range(3)]
    assert sorted(row["instruction"] for part in parts for row in part) == sorted(r["instruction"] for r in ROWS)
    assert {len(part) for part in parts} == {3, 4}
    with pytest.raises(DataError, match="shards_idx 3 of 3"):
        read(tmp_path, path=path, shards=3, shards_idx=3)


def test_a_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", ROWS)
    copy = write_jsonl(tmp_path / "b.jsonl", ROWS)

    def fingerprint(path: Path) -> list[str]:
        return find_source(DatasetSpec(path=str(path), type="alpaca")).fingerprint()

    assert fingerprint(first) == fingerprint(copy)
    write_jsonl(copy, ROWS[:-1])
    assert fingerprint(first) != fingerprint(copy)


def test_a_bad_line_keeps_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\n{"a": \n"text"\n{"a": "\xff"}\n{"a": 2}')
    reader = find_source(DatasetSpec(path=str(path), type="alpaca")).open(tmp_path)
    rows = reader.read(0, len(reader))
    assert rows[0] == {"a": 1}
    assert rows[1] is None
    assert isinstance(rows[2], RowError)
    assert str(rows[2]).startswith("not JSON")
    assert "the line is text, not an object" in str(rows[3])
    assert "not UTF-8 (byte 0xff" in str(rows[4])
    assert rows[5] == {"a": 2}
    assert reader.place(2) == f"{path}, line 3"


def test_a_bad_line_of_text_keeps_its_number(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\n\ncaf\xe9\n")
    reader = find_source(DatasetSpec(path=str(path), type="completion")).open(tmp_path)
    rows = reader.read(0, len(reader))
    assert rows[:2] == [{"text": "one"}, None]
    assert str(rows[2]) == "not UTF-8 (byte 0xe9 at 4)"
    assert reader.place(2) == f"{path}, line 3"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "is empty"),
        ("cut.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 999, mtime=0)[:40], "does not unpack as gzip"),
        ("bad.parquet", b"PAR1 no", "is not a Parquet file"),
        ("bad.arrow", b"nothing", "is neither an Arrow stream"),
        ("array.json", b"[1, 2", "is not JSON"),
        ("latin.csv", "a,b\n1,2\n1,é\n".encode("latin-1"), "line 3: not UTF-8 .byte 0xe9 at 3"),
        ("wide.json", '{"a": 1}'.encode("utf-16"), "is UTF-16"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        find_source(DatasetSpec(path=str(tmp_path / name), type="alpaca")).open(tmp_path)
    assert name in str(raised.value)
    assert raised.value.exit_code == 3


def test_a_missing_file_is_guessed(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", ROWS)
    with pytest.raises(DataError) as raised:
        find_source(DatasetSpec(path=str(tmp_path / "trian.jsonl")))
    assert raised.value.hint == "did you mean 'train.jsonl'?"
    with pytest.raises(DataError, match=r"no dataset at nowhere/a\.jsonl"):
        find_source(DatasetSpec(path="nowhere/a.jsonl"))


def test_a_hub_name_without_a_hub(tmp_path: Path) -> None:
    source = find_source(DatasetSpec(path="some/dataset"))
    with pytest.raises(DataError, match="dataset some/dataset cannot be loaded"):
        source.open(tmp_path)


@pytest.mark.parametrize("part", ["1", "a:b", "10%", "1:2:3"])
def test_a_slice_that_is_not_understood(part: str) -> None:
    with pytest.raises(DataError, match="not understood"):
        parse_slice(part, 10, "x")


def test_split_names() -> None:
    assert split_name("train[:10%]") == ("train", ":10%")
    with pytest.raises(DataError, match="not understood"):
        split_name("train[")


def test_http_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="over https only"):
        find_source(DatasetSpec(path="http://example.org/a.jsonl"))


@pytest.mark.service
def test_s3_files_directories_and_saved_sets(tmp_path: Path, s3: Any) -> None:
    import boto3

    client = boto3.client("s3")
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    client.upload_file(str(path), s3.bucket, "data/one/a.jsonl")
    for file in write_saved(tmp_path / "saved").iterdir():
        client.upload_file(str(file), s3.bucket, f"data/saved/{file.name}")
    assert read(tmp_path, path=f"s3://{s3.bucket}/data/one/a.jsonl") == ROWS
    assert read(tmp_path, path=f"s3://{s3.bucket}/data/one") == ROWS
    assert read(tmp_path, path=f"s3://{s3.bucket}/data/saved") == ROWS
    source = find_source(DatasetSpec(path=f"s3://{s3.bucket}/data/one/a.jsonl"))
    before = source.fingerprint()
    client.put_object(Bucket=s3.bucket, Key="data/one/a.jsonl", Body=b'{"instruction": "a", "output": "b"}\n')
    assert find_source(DatasetSpec(path=f"s3://{s3.bucket}/data/one/a.jsonl")).fingerprint() != before
    with pytest.raises(DataError, match="nothing at s3://"):
        find_source(DatasetSpec(path=f"s3://{s3.bucket}/data/none"))
