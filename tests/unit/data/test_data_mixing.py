"""Putting entries together: shards, weights, order, made-up rows; everything by seed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ftl_config.schema.data import DatasetSpec
from ftl_runner.data import prepare
from ftl_runner.data.errors import DataError
from ftl_runner.data.prepared import Prepared
from ftl_runner.data.sources import find_source
from tests.unit.data.data_support import make_config, text_of, write_jsonl


def write_numbers(path: Path, start: int, count: int) -> dict[str, Any]:
    rows = [{"text": f"number {n} " + "and so on " * (n % 7)} for n in range(start, start + count)]
    return {"path": str(write_jsonl(path, rows)), "type": "completion"}


@pytest.fixture
def entries(tmp_path: Path) -> list[dict[str, Any]]:
    return [write_numbers(tmp_path / "a.jsonl", 0, 40), write_numbers(tmp_path / "b.jsonl", 1000, 20)]


@pytest.fixture
def mixed(tokenizer: Any, tmp_path: Path) -> Any:
    def numbers(*specs: dict[str, Any], which: str = "train", again: bool = False, **keys: Any) -> list[int]:
        config = make_config(*specs, folder=tmp_path, **keys)
        root = tmp_path / ("cache-2" if again else "cache")
        prepared: Prepared = prepare(config, tokenizer, cache_root=root)
        texts = [text_of(tokenizer, row["input_ids"]) for row in getattr(prepared, which)]
        return [int(part.split()[0]) for text in texts for part in text.split("number ")[1:]]

    return numbers


def test_whole_set_shards_share_the_rows_out(mixed: Any, entries: list[dict[str, Any]]) -> None:
    parts = [mixed(*entries, dataset_shard_num=3, dataset_shard_idx=index) for index in range(3)]
    assert sorted(number for part in parts for number in part) == [*range(40), *range(1000, 1020)]
    assert [len(part) for part in parts] == [20, 20, 20]
    assert mixed(*entries, dataset_shard_num=3, dataset_shard_idx=1, again=True) == parts[1]


def test_entries_can_be_shuffled_by_themselves(mixed: Any, entries: list[dict[str, Any]]) -> None:
    keys = {"shuffle_merged_datasets": False, "shuffle_before_merging_datasets": True}
    order = mixed(*entries, **keys)
    assert sorted(order[:40]) == [*range(40)]
    assert sorted(order[40:]) == [*range(1000, 1020)]
    assert order[:40] != [*range(40)]
    assert mixed(*entries, **keys, again=True) == order
    assert mixed(*entries, **keys, seed=1) != order


@pytest.mark.parametrize("packing", [False, True])
def test_a_curriculum_keeps_the_order_of_the_data(mixed: Any, entries: list[dict[str, Any]], packing: bool) -> None:
    order = mixed(*entries, curriculum_sampling=True, sample_packing=packing)
    assert order == [*range(40), *range(1000, 1020)]


@pytest.mark.parametrize(("weight", "count"), [(1, 20), (2, 40), (0.5, 10), (2.25, 45), (0.05, 1)])
def test_a_weight_repeats_or_thins_out(mixed: Any, entries: list[dict[str, Any]], weight: float, count: int) -> None:
    numbers = mixed(entries[0], {**entries[1], "weight": weight})
    times = Counter(number for number in numbers if number >= 1000)
    assert sum(times.values()) == count
    assert len(numbers) == 40 + count
    assert set(times.values()) <= {int(weight), int(weight) + 1}
    assert mixed(entries[0], {**entries[1], "weight": weight}, again=True) == numbers


def test_a_fraction_of_a_weight_is_drawn_by_seed(mixed: Any, entries: list[dict[str, Any]]) -> None:
    thin = {**entries[0], "weight": 0.5}
    assert sorted(mixed(thin, seed=1)) != sorted(mixed(thin, seed=2))


def test_skipped_rows_are_left_out_before_all_else(mixed: Any, entries: list[dict[str, Any]]) -> None:
    assert sorted(mixed({**entries[0], "skip": 35})) == [*range(35, 40)]
    assert sorted(mixed({**entries[0], "skip": 5, "split": "train[10:20]"})) == [*range(15, 20)]
    with pytest.raises(DataError, match="has no rows") as raised:
        mixed({**entries[0], "skip": 40})
    assert raised.value.hint == "skip: 40 leaves none"


def test_validation_rows_are_drawn_by_seed(mixed: Any, entries: list[dict[str, Any]]) -> None:
    keys = {"val_set_size": 0.2}
    held = mixed(*entries, **keys, which="eval")
    assert len(held) == 12
    assert sorted([*held, *mixed(*entries, **keys)]) == [*range(40), *range(1000, 1020)]
    assert mixed(*entries, **keys, which="eval", again=True) == held
    assert mixed(*entries, **keys, which="eval", seed=5) != held


def test_duplicates_go_across_entries(mixed: Any, entries: list[dict[str, Any]], tmp_path: Path) -> None:
    more = write_numbers(tmp_path / "c.jsonl", 30, 20)
    numbers = mixed(*entries, more, dataset_exact_deduplication=True)
    assert sorted(numbers) == [*range(50), *range(1000, 1020)]


def test_shards_of_an_entry_are_drawn_by_seed(mixed: Any, entries: list[dict[str, Any]]) -> None:
    first, second = ({**entries[0], "shards": 2, "shards_idx": index} for index in (0, 1))
    assert sorted(mixed(first) + mixed(second)) == [*range(40)]
    assert sorted(mixed(first, seed=9)) != sorted(mixed(first))


def test_preparing_in_pieces_gives_the_same_set(mixed: Any, entries: list[dict[str, Any]]) -> None:
    assert mixed({**entries[0], "preprocess_shards": 4}, again=True) == mixed(entries[0])


def test_made_up_rows(tokenizer: Any, tmp_path: Path) -> None:
    keys = {"length": 30, "sequence_length": 50, "min_input_id": 10, "max_input_id": 12}
    config = make_config({"path": "made-up", "type": "_synthetic", **keys}, folder=tmp_path)
    prepared = prepare(config, tokenizer, cache_root=tmp_path / "cache")
    rows = prepared.train["input_ids"][:]
    assert [len(row) for row in rows] == [50] * 30
    assert {token for row in rows for token in row} == {10, 11, 12}
    assert prepared.report.trained_tokens == 30 * 49
    sources = [find_source(DatasetSpec(type="_synthetic", seed=seed, **keys)) for seed in (1, 1, 2)]
    assert sources[0].fingerprint() == sources[1].fingerprint() != sources[2].fingerprint()
    assert sources[0].open(tmp_path).read(3, 5) == sources[1].open(tmp_path).read(0, 5)[3:]
    with pytest.raises(DataError, match="below min_input_id"):
        find_source(DatasetSpec(type="_synthetic", min_input_id=5, max_input_id=4))


def test_files_of_different_schemas_are_named(mixed: Any, entries: list[dict[str, Any]], tmp_path: Path) -> None:
    """In one entry, the rows that lack the field; of two entries, each has fields of its own."""
    folder = tmp_path / "folder"
    folder.mkdir()
    write_jsonl(folder / "1.jsonl", [{"text": "number 1 so"}])
    write_jsonl(folder / "2.jsonl", [{"text": "number 2 so", "more": [1]}, {"body": "number 3 so"}])
    with pytest.raises(DataError, match=r"2\.jsonl, line 2: no field 'text' \(fields: body\)"):
        mixed({"path": str(folder), "type": "completion"})
    write_jsonl(folder / "2.jsonl", [{"text": "number 2 so", "more": [1]}])
    other = {"path": str(write_jsonl(tmp_path / "3.jsonl", [{"body": "number 3 so"}])), "type": "completion"}
    assert sorted(mixed({"path": str(folder), "type": "completion"}, {**other, "field": "body"})) == [1, 2, 3]
