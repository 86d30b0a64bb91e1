"""Streams: the rows of every kind of file, shared out, in memory that does not grow, resumable at any row."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import resource
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftl_config import Config
from ftl_config.schema.data import DatasetSpec
from ftl_runner.data import make_collator, prepare
from ftl_runner.data.errors import DataError
from ftl_runner.data.open_stream import open_stream_set
from ftl_runner.data.row_streams import open_streams, read_rows
from ftl_runner.data.sources import find_source
from ftl_runner.data.stream import Cursor, Shard, StreamSet
from tests.unit.data.data_support import chat_row, make_config, text_of, write_jsonl
from tests.unit.data.test_data_sources import (
    ROWS,
    write_arrow,
    write_csv,
    write_packed,
    write_parquet,
    write_saved,
    write_zst,
)


def streamed(path: Path, start: int = 0, step: int = 1, stop: int | None = None) -> list[Any]:
    streams = open_streams(find_source(DatasetSpec(path=str(path), type="alpaca")).origins)
    return [row for _, _, row in read_rows(streams, start, step, stop)]


def write_folder(path: Path) -> Path:
    path.mkdir()
    for number in range(0, 10, 3):
        write_jsonl(path / f"part-{number}.jsonl", ROWS[number : number + 3])
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", lambda path: write_jsonl(path, ROWS)),
        ("a.csv", write_csv),
        ("a.csv.gz", lambda path: (path.write_bytes(gzip.compress(write_csv(path).read_bytes())), path)[1]),
        ("a.parquet", write_parquet),
        ("a.arrow", write_arrow),
        ("saved", write_saved),
        ("a.jsonl.gz", lambda path: write_packed(path, gzip.open)),
        ("a.jsonl.zst", write_zst),
        ("folder", write_folder),
    ],
)
def test_every_kind_is_streamed(tmp_path: Path, name: str, write: Callable[[Path], Path]) -> None:
    path = write(tmp_path / name)
    assert streamed(path) == ROWS
    assert streamed(path, 4, 3) == ROWS[4::3]
    assert streamed(path, 1, 2, stop=6) == ROWS[1:6:2]
    assert streamed(path, 99) == []


def test_text_and_its_places(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\r\n\ntwo é\n".encode() + b"\xff\n")
    rows = list(read_rows(open_streams(find_source(DatasetSpec(path=str(path))).origins), 0, 1))
    assert [row for _, _, row in rows[:3]] == [{"text": "one"}, None, {"text": "two é"}]
    assert "not UTF-8 (byte 0xff at 1)" in str(rows[3][2])
    stream, index, _ = rows[3]
    assert stream.place(index) == f"{path}, line 4"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("array.json", b'[{"text": "a"}]', "is one JSON value, .* cannot be streamed"),
        ("empty.jsonl", b"", "is empty"),
        ("cut.jsonl.gz", gzip.compress(b'{"text": "a"}\n' * 999, mtime=0)[:40], "cannot be read"),
        ("bad.parquet", b"PAR1 no", "is not a Parquet file"),
    ],
)
def test_files_that_cannot_be_streamed(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as raised:
        streamed(tmp_path / name)
    assert name in str(raised.value)


def texts(count: int, start: int = 0) -> list[dict[str, str]]:
    return [{"text": f"document {n} " + "word " * (n % 30)} for n in range(start, start + count)]


def pretraining(*paths: Path, folder: Path, **keys: Any) -> Config:
    values = {"max_steps": 5, "streaming_multipack_buffer_size": 40, "sequence_len": 64, **keys}
    entries = [{"path": str(path), "type": "pretrain"} for path in paths]
    return make_config(folder=folder, datasets=None, pretraining_dataset=entries, **values)


def rows_of_one_pass(stream: StreamSet, shard: Shard | None = None) -> Iterator[tuple[Any, Cursor]]:
    for row, following in stream.rows(shard or Shard(), Cursor()):
        if following.passes:
            return
        yield row, following


def one_pass(stream: StreamSet, shard: Shard | None = None) -> list[tuple[Any, Cursor]]:
    return list(rows_of_one_pass(stream, shard))


def documents(rows: list[tuple[Any, Cursor]], tokenizer: Any) -> list[str]:
    whole = "".join(text_of(tokenizer, row["input_ids"].tolist()) for row, _ in rows)
    return whole.split("<|im_end|>")[:-1]


def test_all_samples_arrive_once_shuffled_and_packed(tokenizer: Any, tmp_path: Path) -> None:
    rows = texts(100)
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    stream = open_stream_set(pretraining(path, folder=tmp_path, sample_packing=True), tokenizer)
    got = one_pass(stream)
    texts_seen = documents(got, tokenizer)
    assert sorted(texts_seen) == sorted(row["text"] for row in rows)
    assert texts_seen != [row["text"] for row in rows]
    assert max(len(row["input_ids"]) for row, _ in got) <= 64
    assert all((row["labels"][row["position_ids"] == 0] == -100).all() for row, _ in got)
    assert sum(int((row["position_ids"] == 0).sum()) for row, _ in got) == 100
    again = open_stream_set(pretraining(path, folder=tmp_path, sample_packing=True), tokenizer)
    assert [row["input_ids"].tolist() for row, _ in one_pass(again)] == [row["input_ids"].tolist() for row, _ in got]
    other = open_stream_set(pretraining(path, folder=tmp_path, sample_packing=True, seed=3), tokenizer)
    assert documents(one_pass(other), tokenizer) != texts_seen


def test_any_cursor_goes_on_with_the_rows_not_seen(tokenizer: Any, tmp_path: Path) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", texts(700))
    second = write_jsonl(tmp_path / "b.jsonl", texts(90, start=5000))
    stream = open_stream_set(pretraining(first, second, folder=tmp_path, sample_packing=True), tokenizer)
    shard = Shard(1, 2)
    whole = list(islice(stream.rows(shard, Cursor()), 400))  # several passes
    assert whole[-1][1].passes > 1
    for seen in (1, 7, 60, 203, 399):
        rest = list(islice(stream.rows(shard, whole[seen - 1][1]), 400 - seen))
        assert all(
            np.array_equal(row["input_ids"], expected["input_ids"]) and cursor == expected_cursor
            for (row, cursor), (expected, expected_cursor) in zip(rest, whole[seen:], strict=True)
        )


def test_shards_share_the_rows_out(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", texts(50))
    stream = open_stream_set(pretraining(path, folder=tmp_path), tokenizer)
    parts = [documents(one_pass(stream, Shard(number, 3)), tokenizer) for number in range(3)]
    assert sorted(text for part in parts for text in part) == sorted(row["text"] for row in texts(50))
    assert sorted(map(len, parts)) == [16, 17, 17]


def test_weights_skip_and_slices(tokenizer: Any, tmp_path: Path) -> None:
    first = write_jsonl(tmp_path / "a.jsonl", texts(400))
    second = write_jsonl(tmp_path / "b.jsonl", texts(400, start=5000))
    entries = [
        {"path": str(first), "type": "completion", "skip": 100, "weight": 3},
        {"path": str(second), "type": "completion", "split": "train[10:300]"},
    ]
    config = make_config(*entries, folder=tmp_path, streaming=True, max_steps=5, streaming_multipack_buffer_size=200)
    stream = open_stream_set(config, tokenizer)
    got = documents(one_pass(stream), tokenizer)
    numbers = sorted(int(text.split()[1]) for text in got)
    assert numbers == [*range(100, 400), *range(5010, 5300)]
    beginning = [int(text.split()[1]) < 5000 for text in got[:200]]
    assert 140 <= sum(beginning) <= 160


def test_samples_are_joined_to_full_rows(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", texts(40))
    keys = {"pretraining_sample_concatenation": True, "shuffle_merged_datasets": False}
    stream = open_stream_set(pretraining(path, folder=tmp_path, **keys), tokenizer)
    got = one_pass(stream)
    assert [len(row["input_ids"]) for row, _ in got[:-1]] == [64] * (len(got) - 1)
    assert documents(got, tokenizer) == [row["text"] for row in texts(40)]


def test_packed_samples_may_be_left_together(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", texts(40))
    config = pretraining(path, folder=tmp_path, sample_packing=True, pretrain_multipack_attn=False)
    row, _ = next(open_stream_set(config, tokenizer).rows(Shard(), Cursor()))
    batch = make_collator(config, tokenizer, packed=True)([row])
    assert batch["position_ids"][0, : len(row["input_ids"])].tolist() == list(range(len(row["input_ids"])))
    isolated = pretraining(path, folder=tmp_path, sample_packing=True)
    row, _ = next(open_stream_set(isolated, tokenizer).rows(Shard(), Cursor()))
    assert (make_collator(isolated, tokenizer, packed=True)([row])["position_ids"] == 0).sum() >= 2


def test_conversations_are_streamed_with_their_masks(tokenizer: Any, tmp_path: Path) -> None:
    rows = [chat_row(f"question {n}", f"answer {n}") for n in range(30)]
    entry = {"path": str(write_jsonl(tmp_path / "a.jsonl", rows)), "type": "chat_template", "chat_template": "chatml"}
    keys: dict[str, Any] = {"folder": tmp_path, "shuffle_merged_datasets": False}
    got = one_pass(open_stream_set(make_config(entry, **keys, streaming=True, max_steps=5), tokenizer))
    whole = prepare(make_config(entry, **keys), tokenizer, cache_root=tmp_path / "cache").train
    assert [row["input_ids"].tolist() for row, _ in got] == whole["input_ids"][:]
    assert [row["labels"].tolist() for row, _ in got] == whole["labels"][:]


def test_a_bad_row_is_named_where_it_is_met(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", texts(600))
    with path.open("a") as file:
        file.write('{"text": \n')
    config = pretraining(path, folder=tmp_path)
    prepared = prepare(config, tokenizer, cache_root=tmp_path / "cache")  # the first rows are fine
    assert prepared.report.rows_read == 256
    with pytest.raises(DataError, match=r"a\.jsonl, line 601: not JSON"):
        one_pass(prepared.train, Shard(0, 2))
    assert len(one_pass(prepared.train, Shard(1, 2))) == 300
    skipping = open_stream_set(pretraining(path, folder=tmp_path, skip_bad_rows=True), tokenizer)
    assert len(one_pass(skipping)) == 600
    assert skipping.tally.dropped["bad"] == 1


def test_nothing_to_train_on_is_said_before_training(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "two words " * 90}] * 3)
    config = make_config(
        {"path": str(path), "type": "alpaca", "field": "text"}, folder=tmp_path, streaming=True, max_steps=5
    )
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: no field"):
        prepare(config, tokenizer, cache_root=tmp_path / "cache")
    blank = tmp_path / "blank.jsonl"
    blank.write_text("\n\n\n")
    with pytest.raises(DataError, match=r"nothing to train on in .*blank\.jsonl"):
        prepare(pretraining(blank, folder=tmp_path), tokenizer, cache_root=tmp_path / "cache")


def test_test_sets_of_a_stream_are_prepared(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", texts(30))
    held = write_jsonl(tmp_path / "held.jsonl", texts(7, start=900))
    config = pretraining(path, folder=tmp_path, test_datasets=[{"path": str(held), "type": "completion"}])
    prepared = prepare(config, tokenizer, cache_root=tmp_path / "cache")
    assert prepared.eval is not None
    assert prepared.report.eval_sequences == len(prepared.eval) == 7


def _write_rows(path: Path, count: int) -> None:
    rows = [{"text": f"row {n}", "unused": f"{n} " * 400} for n in range(count)]
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=1000, compression="none")


def _peak_bytes(config: Config, tokenizer: Any, queue: Any) -> None:
    found = sum(1 for _ in rows_of_one_pass(open_stream_set(config, tokenizer)))  # a list of them would grow
    queue.put((found, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024))


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_ten_times_the_rows_take_the_same_memory(tokenizer: Any, tmp_path: Path, ending: str) -> None:
    """Each process starts as a copy of this one, so that their peaks differ by what the stream takes."""
    context = multiprocessing.get_context("fork")
    peaks: dict[int, int] = {}
    for count in (3_000, 30_000):
        path = tmp_path / f"{count}.{ending}"
        writer = context.Process(target=_write_rows, args=(path, count))
        writer.start()
        writer.join(60)
        config = pretraining(path, folder=tmp_path, streaming_multipack_buffer_size=500)
        queue = context.Queue()
        process = context.Process(target=_peak_bytes, args=(config, tokenizer, queue))
        process.start()
        found, peaks[count] = queue.get(timeout=120)
        process.join(60)
        assert found == count
    more = (tmp_path / f"30000.{ending}").stat().st_size - (tmp_path / f"3000.{ending}").stat().st_size
    assert more > 50e6
    assert peaks[30_000] - peaks[3_000] < more / 3, peaks
