"""What makes preparing fast, where it could be lost without notice: imports left out, no loop over rows in packing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ftl_runner.data import pack as packing_module
from ftl_runner.data.assemble import TokenStore, _schema
from ftl_runner.data.build import BuildOptions, Entry, build
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.pack import pack
from ftl_runner.data.sources import find_source
from tests.unit.data.data_support import chat_row, make_config, write_jsonl

PROBE = """
import sys
from ftl_runner.entry import main
try:
    main()
finally:
    print("LOADED", *(name for name in ("torch", "datasets", "pandas", "accelerate") if name in sys.modules))
"""


def preprocess(config: Path, *options: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", PROBE, "preprocess", str(config), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert result.returncode == 0, result.stderr
    assert "torch" not in result.stderr.lower()  # nothing tells the user that torch is missing: it is not
    return result.stdout


def test_preprocess_imports_neither_torch_nor_datasets(tokenizer_dir: Path, tmp_path: Path) -> None:
    data = write_jsonl(tmp_path / "chat.jsonl", [chat_row("What?", f"Answer {n}.") for n in range(9)])
    prepared = str(tmp_path / "prepared")
    entry = {"path": str(data), "type": "chat_template", "chat_template": "chatml"}
    keys: dict[str, Any] = {"base_model": str(tokenizer_dir), "dataset_prepared_path": prepared}
    make_config(entry, folder=tmp_path, **keys)
    written = preprocess(tmp_path / "config.yml")
    assert "9 sequences" in written
    assert written.splitlines()[-1] == "LOADED"


@pytest.mark.parametrize("positions", [True, False])
def test_the_schema_is_what_datasets_would_write(positions: bool) -> None:
    from datasets import Features, List, Value

    columns: dict[str, Any] = {name: List(Value("int32")) for name in ("input_ids", "labels")}
    if positions:
        columns["position_ids"] = List(Value("int32"))
    wanted: pa.Schema = Features({**columns, "length": Value("int32")}).arrow_schema
    assert _schema(positions).equals(wanted, check_metadata=True)


def test_rows_are_read_back_in_any_order(tokenizer: Any, tmp_path: Path) -> None:
    rows = [chat_row(f"Question {n}?", "yes " * (n % 7 + 1)) for n in range(1000)]
    spec = {"path": str(write_jsonl(tmp_path / "chat.jsonl", rows)), "type": "chat_template"}
    config = make_config({**spec, "chat_template": "chatml"}, folder=tmp_path)
    assert config.data.datasets
    entry = config.data.datasets[0]
    converter = RowConverter(entry, config.data, tokenizer, LengthRule(256))
    reader = find_source(entry).open(tmp_path)
    kept, _, _ = converter.convert(reader.read(0, 1000), 0)
    for processes in (1, 3):
        scratch = tmp_path / str(processes)
        scratch.mkdir()
        built = build([Entry("chat", reader, converter)], BuildOptions(scratch, processes), lambda text: None)
        store = TokenStore(built)
        order = np.random.default_rng(0).permutation(len(store))[:500]
        ids, labels = store.read(order)
        np.testing.assert_array_equal(ids, np.concatenate([kept[number].input_ids for number in order]))
        np.testing.assert_array_equal(labels, np.concatenate([kept[number].labels for number in order]))


def test_packing_loops_over_lengths_not_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.random.default_rng(0).integers(1, 65, 200_000)
    patterns: list[int] = []
    fill = packing_module._Stock.fill

    def counted(stock: Any, first: int, room: int) -> list[int]:
        patterns.append(first)
        return fill(stock, first, room)

    monkeypatch.setattr(packing_module._Stock, "fill", counted)
    packing = pack(lengths, 128, 0)
    assert lengths.sum() / (len(packing) * 128) > 0.999
    assert len(patterns) < 200  # of 50,000 bins
