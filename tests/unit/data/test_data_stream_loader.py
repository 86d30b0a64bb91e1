"""The loader of a rank's share of a stream: its position is that of what was handed out, however many read ahead."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from ftl_runner.checkpoints.errors import ResumeError
from ftl_runner.data.errors import DataError
from ftl_runner.data.open_stream import open_stream_set
from ftl_runner.data.stream import StreamSet
from ftl_runner.trainer.streaming import Position, StreamLoader, position_file, restore_position
from tests.unit.data.data_support import make_config, write_jsonl


@pytest.fixture
def stream(tokenizer: Any, tmp_path: Path) -> StreamSet:
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": f"text number {n}"} for n in range(90)])
    entry = {"path": str(path), "type": "pretrain"}
    keys = {"max_steps": 5, "streaming_multipack_buffer_size": 16}
    return open_stream_set(make_config(folder=tmp_path, datasets=None, pretraining_dataset=[entry], **keys), tokenizer)


def first_ids(rows: Sequence[Any]) -> dict[str, Any]:
    return {"rows": [tuple(row["input_ids"].tolist()) for row in rows]}


def loader(stream: StreamSet, rank: int = 0, world_size: int = 2, num_workers: int = 0) -> StreamLoader:
    return StreamLoader(stream, rank, Position(world_size, num_workers, 0, {}), first_ids, batch_size=2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_saved_position_is_gone_on_from(stream: StreamSet, tmp_path: Path, num_workers: int) -> None:
    whole = [batch["rows"] for batch in islice(loader(stream, num_workers=num_workers), 40)]
    interrupted = loader(stream, num_workers=num_workers)
    seen = [batch["rows"] for batch in islice(interrupted, 9)]
    position_file(tmp_path, 0).write_text(interrupted.position.to_json())
    resumed = loader(stream, num_workers=num_workers)
    restore_position(resumed, tmp_path, 0)
    assert resumed.position.batches == 9
    assert seen + [batch["rows"] for batch in islice(resumed, 31)] == whole


def test_ranks_read_different_rows(stream: StreamSet) -> None:
    parts = [[row for batch in islice(loader(stream, rank), 22) for row in batch["rows"]] for rank in range(2)]
    assert len({*parts[0], *parts[1]}) == 88
    assert not set(parts[0]) & set(parts[1])


def test_starting_leaves_the_random_numbers_alone(stream: StreamSet) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    next(iter(loader(stream)))
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("changed", [{"world_size": 4}, {"num_workers": 1}])
def test_rows_shared_out_differently_are_refused(stream: StreamSet, tmp_path: Path, changed: dict[str, int]) -> None:
    position_file(tmp_path, 0).write_text(Position(2, 0, 3, {}).to_json())
    with pytest.raises(ResumeError, match="over 2 workers with dataloader_num_workers 0; this run has"):
        restore_position(loader(stream, **changed), tmp_path, 0)


def test_a_checkpoint_without_a_position_is_refused(stream: StreamSet, tmp_path: Path) -> None:
    with pytest.raises(ResumeError, match=r"stream-00000\.json is missing"):
        restore_position(loader(stream), tmp_path, 0)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_row_is_one_error_from_any_process(tokenizer: Any, tmp_path: Path, num_workers: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": 2}\n')
    entry = {"path": str(path), "type": "pretrain"}
    config = make_config(folder=tmp_path, datasets=None, pretraining_dataset=[entry], max_steps=5)
    with pytest.raises(DataError) as raised:
        next(iter(loader(open_stream_set(config, tokenizer), world_size=1, num_workers=num_workers)))
    assert str(raised.value).startswith(f"{path}, line 2: field 'text' is a number, not text")
    assert "Traceback" not in str(raised.value)
