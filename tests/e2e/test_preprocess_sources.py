"""`ftl preprocess` on a set of every kind of source at once."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl, write_config
from tests.unit.data.data_support import write_jsonl
from tests.unit.data.test_data_sources import (
    ROWS,
    write_arrow,
    write_csv,
    write_json,
    write_packed,
    write_parquet,
    write_saved,
    write_zst,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def base(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    return {
        "base_model": str(tiny_model),
        "sequence_len": 128,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-3,
        "output_dir": str(tmp_path / "out"),
        "dataset_prepared_path": str(tmp_path / "prepared"),
    }


def write_every_kind(folder: Path) -> list[str]:
    (folder / "dir").mkdir()
    write_jsonl(folder / "dir/train.jsonl", ROWS)
    write_jsonl(folder / "dir/test.jsonl", ROWS[:1])
    tsv = folder / "a.tsv"
    tsv.write_text("instruction\toutput\n" + "".join(f"{row['instruction']}\tyes\n" for row in ROWS))
    (folder / "object.json").write_text(json.dumps({"data": ROWS}, indent=1))
    return [
        str(path)
        for path in (
            write_jsonl(folder / "a.jsonl", ROWS),
            write_jsonl(folder / "lines.json", ROWS),
            write_json(folder / "array.json"),
            folder / "object.json",
            write_csv(folder / "a.csv"),
            tsv,
            write_parquet(folder / "a.parquet"),
            write_arrow(folder / "a.arrow"),
            write_saved(folder / "saved"),
            write_packed(folder / "a.jsonl.gz", gzip.open),
            write_zst(folder / "b.jsonl.zst"),
            folder / "dir",
        )
    ]


def test_every_kind_at_once(ftl: Ftl, base: dict[str, Any], tmp_path: Path, s3: Any) -> None:
    import boto3

    paths = write_every_kind(tmp_path)
    boto3.client("s3").upload_file(paths[0], s3.bucket, "kinds/a.jsonl")
    paths.append(f"s3://{s3.bucket}/kinds/a.jsonl")
    (tmp_path / "text.txt").write_text("one\ntwo\n\nthree\n")
    tokens = write_jsonl(tmp_path / "tokens.jsonl", [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}] * 4)
    config = {
        **base,
        "dataset_prepared_path": f"s3://{s3.bucket}/kinds-prepared",
        "datasets": [
            *({"path": path, "type": "alpaca"} for path in paths),
            {"path": str(tmp_path / "text.txt"), "type": "completion"},
            {"path": str(tokens)},
        ],
    }
    path = write_config(tmp_path / "config.yml", config)
    result = ftl.run("preprocess", str(path))
    for source in paths:
        assert f"{source}: 10 rows, type alpaca" in result.stdout
    assert f"{tmp_path / 'text.txt'}: 3 rows, type completion" in result.stdout
    assert "tokens.jsonl: 4 rows, type pretokenized" in result.stdout
    assert f"rows: {10 * len(paths) + 7} read, 0 dropped" in result.stdout
    assert f"uploading the prepared data to s3://{s3.bucket}/kinds-prepared" in result.stderr


def test_a_stream_is_shown_and_not_prepared(ftl: Ftl, base: dict[str, Any], tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "text.jsonl", [{"body": f"text {n}"} for n in range(9)])
    entry = {"path": str(path), "text_column": "body", "type": "pretrain"}
    config = write_config(tmp_path / "c.yml", {**base, "pretraining_dataset": [entry], "max_steps": 3})
    result = ftl.run("preprocess", str(config), "--debug")
    assert "nothing is prepared ahead" in result.stdout
    assert "the first 9 rows:" in result.stdout
    assert "text" in result.stdout.partition("row 1:")[2]
    assert not (tmp_path / "prepared").exists()
