"""What a batch looks like."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ftl_runner.data import make_collator, prepare
from ftl_runner.data.collate import Layout
from tests.unit.data.data_support import chat_row, make_config, write_jsonl

IGNORE = -100


def sequences() -> list[list[int]]:
    random = np.random.default_rng(3)
    return [random.integers(1, 300, size).tolist() for size in (5, 9, 1, 12, 7)]


def packed_rows(rows: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    packed = []
    for group in groups:
        ids = [token for number in group for token in rows[number]]
        positions = [position for number in group for position in range(len(rows[number]))]
        packed.append({"input_ids": ids, "labels": list(ids), "position_ids": positions})
    return packed


def keys(**data: Any) -> Any:
    values = {"pad_to_sequence_len": None, "sequence_len": 24, "eval_sequence_len": None, "pad_to_multiple_of": None}
    return SimpleNamespace(data=SimpleNamespace(**(values | data)))


TOKENIZER = SimpleNamespace(pad_token_id=0, eos_token_id=0)


def test_padding_of_packed_rows_is_a_sequence_of_its_own() -> None:
    batch = make_collator(keys(), TOKENIZER, packed=True)(packed_rows(sequences(), [[0], [1]]))
    assert batch["position_ids"][0].tolist() == [*range(5), *range(19)]
    assert batch["labels"][0, 5:].eq(IGNORE).all()
    assert batch["labels"][0, 0] == IGNORE


def test_rows_are_joined_to_one() -> None:
    layout = Layout(one_row=True)
    batch = make_collator(keys(), TOKENIZER, packed=True, layout=layout)(packed_rows(sequences(), [[0, 1], [3]]))
    assert batch["input_ids"].shape == (1, 48)
    assert batch["position_ids"][0].tolist() == [*range(5), *range(9), *range(12), *range(22)]


def test_sequences_are_numbered() -> None:
    layout = Layout(sequence_numbers=True)
    batch = make_collator(keys(), TOKENIZER, packed=True, layout=layout)(packed_rows(sequences(), [[0, 2, 1], [3]]))
    assert batch["seq_idx"].dtype == torch.int32
    assert batch["seq_idx"][0].tolist() == [0] * 5 + [1] + [2] * 9 + [3] * 9
    assert batch["seq_idx"][1].tolist() == [0] * 12 + [1] * 12


@pytest.mark.parametrize("multiple", [None, 8])
def test_flattened_rows_have_no_padding(multiple: int | None) -> None:
    plain = [{"input_ids": row, "labels": list(row)} for row in sequences()]
    flatten = make_collator(keys(pad_to_multiple_of=multiple), TOKENIZER, packed=False, layout=Layout(flatten=True))
    batch = flatten(plain)
    assert "attention_mask" not in batch
    assert batch["input_ids"].shape == (1, 40 if multiple else 34)
    assert batch["input_ids"][0, :34].tolist() == [token for row in sequences() for token in row]
    assert batch["position_ids"][0, :14].tolist() == [*range(5), *range(9)]
    assert batch["labels"][0, [0, 5, 14]].eq(IGNORE).all()
    assert batch["num_tokens"].sum() == 34


def test_tokens_are_counted_without_padding() -> None:
    packed = make_collator(keys(), TOKENIZER, packed=True)(packed_rows(sequences(), [[0, 1], [3]]))
    assert packed["num_tokens"].tolist() == [14, 12]
    plain = [{"input_ids": row, "labels": row} for row in sequences()]
    padded = make_collator(keys(pad_to_sequence_len=True), TOKENIZER, packed=False)(plain)
    assert padded["num_tokens"].tolist() == [5, 9, 1, 12, 7]


def test_rows_of_the_other_kind_are_told_by_their_columns() -> None:
    """Evaluation may be packed where training is not, and the other way round."""
    layout = Layout(sequence_numbers=True)
    rows = packed_rows(sequences(), [[0, 1]])
    batch = make_collator(keys(), TOKENIZER, packed=False, layout=layout)(rows)
    assert set(batch) == {"input_ids", "labels", "position_ids", "num_tokens", "seq_idx"}
    plain = [{"input_ids": row, "labels": list(row)} for row in sequences()]
    batch = make_collator(keys(), TOKENIZER, packed=True, layout=layout)(plain)
    assert batch["position_ids"][0].tolist() == [*range(5), *range(19)]
    assert "attention_mask" not in batch


@pytest.mark.parametrize(
    ("data", "width"),
    [({}, 12), ({"pad_to_sequence_len": True}, 24), ({"pad_to_multiple_of": 8}, 16)],
    ids=["longest", "sequence_len", "multiple"],
)
def test_unpacked_padding(data: dict[str, Any], width: int) -> None:
    plain = [{"input_ids": row, "labels": row} for row in sequences()]
    batch = make_collator(keys(**data), TOKENIZER, packed=False)(plain)
    assert batch["input_ids"].shape == (5, width)
    assert batch["attention_mask"].sum(1).tolist() == [5, 9, 1, 12, 7]
    assert batch["labels"][0, 5:].eq(IGNORE).all()


def test_prepared_rows_go_through_both_collators(tokenizer: Any, tmp_path: Path) -> None:
    rows = [chat_row(f"question {n}", "answer " * (n % 7 + 1)) for n in range(20)]
    entry = {"path": str(write_jsonl(tmp_path / "a.jsonl", rows)), "type": "chat_template"}
    for packed in (False, True):
        config = make_config(entry, folder=tmp_path, sample_packing=packed)
        prepared = prepare(config, tokenizer, cache_root=tmp_path / "cache", on_progress=None)
        batch = make_collator(config, tokenizer, packed=packed)([prepared.train[0], prepared.train[1]])
        assert set(batch) == {"input_ids", "labels", "num_tokens", "position_ids" if packed else "attention_mask"}
        assert int((batch["labels"] != IGNORE).sum()) > 0
