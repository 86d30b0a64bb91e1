"""prepare(): order, split, packing, lengths, cache, errors with their place, two processes at once."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import signal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ftl_config import Config
from ftl_runner.data import prepare
from ftl_runner.data.build import RowsDone
from ftl_runner.data.errors import DataError
from ftl_runner.data.prepared import Prepared
from tests.unit.data.data_support import chat_row, make_config, text_of, write_jsonl

ROWS = [chat_row(f"question number {n}", f"answer {n} " + "word " * (n % 23)) for n in range(120)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_jsonl(tmp_path / "data.jsonl", ROWS)


def entry(path: Path, **keys: Any) -> dict[str, Any]:
    return {"path": str(path), "type": "chat_template", "chat_template": "chatml", **keys}


def run(config: Config, tokenizer: Any, tmp_path: Path, **keys: Any) -> Prepared:
    return prepare(config, tokenizer, cache_root=tmp_path / "cache", on_progress=None, **keys)


def sequences(prepared: Prepared, which: str = "train") -> list[tuple[int, ...]]:
    """Every sequence of a set, packed or not."""
    found = []
    for row in getattr(prepared, which):
        ids, positions = row["input_ids"], row.get("position_ids") or range(len(row["input_ids"]))
        starts = [n for n, position in enumerate(positions) if position == 0] + [len(ids)]
        found += [tuple(ids[a:b]) for a, b in pairwise(starts)]
    return found


def test_all_rows_arrive_shuffled_by_seed(data: Path, tokenizer: Any, tmp_path: Path) -> None:
    first = run(make_config(entry(data), folder=tmp_path, seed=1), tokenizer, tmp_path)
    second = run(make_config(entry(data), folder=tmp_path, seed=2), tokenizer, tmp_path)
    kept = run(make_config(entry(data), folder=tmp_path, shuffle_merged_datasets=False), tokenizer, tmp_path)
    assert sorted(sequences(first)) == sorted(sequences(second)) == sorted(sequences(kept))
    assert sequences(first) != sequences(second)
    texts = [text_of(tokenizer, ids) for ids in sequences(kept)]
    assert all(f"question number {n}<" in text for n, text in enumerate(texts))
    assert first.report.rows_read == 120
    assert first.report.num_sequences == len(first.train) == 120
    assert first.report.trained_tokens == sum(label != -100 for row in first.train for label in row["labels"])


def test_packed_rows_hold_the_same_sequences(data: Path, tokenizer: Any, tmp_path: Path) -> None:
    plain = run(make_config(entry(data), folder=tmp_path), tokenizer, tmp_path)
    config = make_config(entry(data), folder=tmp_path, sample_packing=True)
    packed = run(config, tokenizer, tmp_path)
    assert sorted(sequences(packed)) == sorted(sequences(plain))
    assert packed.report.num_bins == len(packed.train) < 30
    assert packed.report.tokens == plain.report.tokens == sum(packed.train["length"])
    assert packed.report.packing_efficiency == pytest.approx(packed.report.tokens / (len(packed.train) * 256))
    assert packed.report.trained_tokens == plain.report.trained_tokens
    again = prepare(config, tokenizer, cache_root=tmp_path / "elsewhere", on_progress=None)
    assert again.train.to_list() == packed.train.to_list()


def test_processes_give_the_same_set(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "many.jsonl", ROWS * 17)
    one = run(make_config(entry(path), folder=tmp_path, dataset_num_proc=1), tokenizer, tmp_path)
    two = prepare(
        make_config(entry(path), folder=tmp_path, dataset_num_proc=2),
        tokenizer,
        cache_root=tmp_path / "two",
        on_progress=None,
    )
    assert one.report.rows_read == two.report.rows_read == 120 * 17
    assert one.train.to_list() == two.train.to_list()
    assert one.report.fingerprint == two.report.fingerprint


@pytest.mark.parametrize(("size", "held_back"), [(0.1, 12), (7, 7)])
def test_validation_rows_are_held_back(data: Path, tokenizer: Any, tmp_path: Path, size: float, held_back: int) -> None:
    prepared = run(make_config(entry(data), folder=tmp_path, val_set_size=size), tokenizer, tmp_path)
    assert prepared.eval is not None
    assert (len(prepared.train), len(prepared.eval)) == (120 - held_back, held_back)
    assert not set(sequences(prepared)) & set(sequences(prepared, "eval"))


def test_test_datasets_are_kept_apart(data: Path, tokenizer: Any, tmp_path: Path) -> None:
    held = write_jsonl(tmp_path / "test.jsonl", ROWS[:5])
    config = make_config(entry(data), folder=tmp_path, test_datasets=[entry(held)], sample_packing=True)
    prepared = run(config, tokenizer, tmp_path)
    assert prepared.report.eval_sequences == 5
    assert len(sequences(prepared, "eval")) == 5


def test_exact_duplicates_are_dropped(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "twice.jsonl", ROWS[:20] * 2)
    prepared = run(make_config(entry(path), folder=tmp_path, dataset_exact_deduplication=True), tokenizer, tmp_path)
    assert len(prepared.train) == 20
    assert prepared.report.rows_dropped == {"duplicate": 20}


LONG = chat_row("short", "fine", "and now", "a long answer " * 200)


def test_long_rows_are_dropped_loudly(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "long.jsonl", [*ROWS[:3], LONG])
    prepared = run(make_config(entry(path), folder=tmp_path), tokenizer, tmp_path)
    assert len(prepared.train) == 3
    assert prepared.report.rows_dropped == {"too_long": 1}
    line = next(line for line in prepared.report.lines() if "longer than sequence_len 256" in line)
    assert line.startswith("WARNING: 1 of 4 rows")
    assert "drop loses 1 rows" in line
    assert "truncate would lose" in line


def test_truncation_does_not_train_half_a_turn(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "long.jsonl", [LONG])
    config = make_config(entry(path), folder=tmp_path, excess_length_strategy="truncate")
    prepared = run(config, tokenizer, tmp_path)
    row = prepared.train[0]
    assert len(row["input_ids"]) == 256
    trained = [token for token, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]
    assert text_of(tokenizer, trained) == "fine<|im_end|>"
    assert prepared.report.masked_tokens > 200


def test_long_rows_can_be_an_error(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "long.jsonl", [*ROWS[:3], LONG])
    config = make_config(entry(path), folder=tmp_path, excess_length_strategy="raise")
    with pytest.raises(DataError, match=r"long\.jsonl, line 4: \d+ tokens are more than sequence_len 256"):
        run(config, tokenizer, tmp_path)


def test_long_completions_become_several_rows(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "text.jsonl", [{"text": "once upon a time " * 150}])
    config = make_config({"path": str(path), "type": "completion"}, folder=tmp_path, shuffle_merged_datasets=False)
    prepared = run(config, tokenizer, tmp_path)
    assert [len(row["input_ids"]) for row in prepared.train] == [256, 256, 90]
    assert text_of(tokenizer, [i for row in prepared.train for i in row["input_ids"]]) == (
        "once upon a time " * 150 + "<|im_end|>"
    )


def test_rows_without_a_trained_token_are_counted(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [*ROWS[:3], chat_row("only a question")])
    prepared = run(make_config(entry(path), folder=tmp_path), tokenizer, tmp_path)
    assert prepared.report.rows_dropped == {"no_trained_token": 1}


def test_nothing_left_to_train(tokenizer: Any, tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [chat_row("only a question")])
    with pytest.raises(DataError, match="no row is left to train on, of 1 read: 1 no trained token"):
        run(make_config(entry(path), folder=tmp_path), tokenizer, tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"messages": [', r"data\.jsonl, line 3: not JSON"),
        ('{"message": []}', r"data\.jsonl, line 3: no field 'messages' \(fields: message\)"),
        ('{"messages": [{"role": "bot", "content": "x"}]}', r"line 3: message 1 has the unknown role 'bot'"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tokenizer: Any, tmp_path: Path, line: str, message: str) -> None:
    good = [json.dumps(row) for row in ROWS[:4]]
    path = tmp_path / "data.jsonl"
    path.write_text("\n".join([*good[:2], line, *good[2:]]) + "\n")
    config = make_config(entry(path), folder=tmp_path)
    with pytest.raises(DataError, match=message) as raised:
        run(config, tokenizer, tmp_path)
    assert raised.value.exit_code == 3
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
    prepared = run(make_config(entry(path), folder=tmp_path, skip_bad_rows=True), tokenizer, tmp_path)
    assert prepared.report.rows_dropped == {"bad": 1}
    rejected = json.loads(Path(prepared.report.rejected_path or "").read_text())
    assert rejected["place"] == f"{path}, line 3"
    assert rejected["row"] in (line, json.loads(line) if line.endswith("}") else line)


def test_the_cache_is_hit_and_knows_what_changes_the_result(data: Path, tokenizer: Any, tmp_path: Path) -> None:
    base: dict[str, Any] = {"folder": tmp_path}
    first = run(make_config(entry(data), **base), tokenizer, tmp_path)
    assert not first.report.cache_hit
    again = run(make_config(entry(data), **base, learning_rate=5e-5, micro_batch_size=4), tokenizer, tmp_path)
    assert again.report.cache_hit
    assert again.train.to_list() == first.train.to_list()
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(data.read_bytes())
    assert run(make_config(entry(moved), **base), tokenizer, tmp_path).report.cache_hit
    changes: list[dict[str, Any]] = [
        {"seed": 7},
        {"sequence_len": 128},
        {"val_set_size": 5},
        {"train_on_inputs": True},
        {"sample_packing": True},
        {"excess_length_strategy": "truncate"},
        {"min_sample_len": 10},
        {"shuffle_merged_datasets": False},
        {"default_system_message": "Hi"},
    ]
    for change in changes:
        assert not run(make_config(entry(data), **base, **change), tokenizer, tmp_path).report.cache_hit, change
    for key in ({"train_on_eos": "none"}, {"chat_template": "phi_3"}, {"split": "train[:50%]"}):
        assert not run(make_config(entry(data, **key), **base), tokenizer, tmp_path).report.cache_hit, key


def test_the_cache_sees_content_tokenizer_and_template_text(
    data: Path, tokenizer: Any, load_tokenizer: Any, tmp_path: Path
) -> None:
    jinja = tmp_path / "own.jinja"
    jinja.write_text("{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    config = make_config(entry(data, chat_template="jinja", chat_template_jinja=str(jinja)), folder=tmp_path)
    assert not run(config, tokenizer, tmp_path).report.cache_hit
    assert run(config, tokenizer, tmp_path).report.cache_hit
    assert not run(config, load_tokenizer("<new>", eos="<|im_end|>"), tmp_path).report.cache_hit
    jinja.write_text("{% for m in messages %}{{ m.content }}!<|im_end|>{% endfor %}")
    assert not run(config, tokenizer, tmp_path).report.cache_hit
    with data.open("a") as file:
        file.write(json.dumps(ROWS[0]) + "\n")
    changed = run(config, tokenizer, tmp_path)
    assert not changed.report.cache_hit
    assert changed.report.rows_read == 121


def _die_while_writing(config: Config, tokenizer: Any, root: Path) -> None:
    import ftl_runner.data.fill as fill

    fill.write_set = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
    prepare(config, tokenizer, cache_root=root, on_progress=None)


def test_a_crash_leaves_nothing_that_is_read(data: Path, tokenizer: Any, tmp_path: Path) -> None:
    config = make_config(entry(data), folder=tmp_path)
    process = multiprocessing.get_context("fork").Process(
        target=_die_while_writing, args=(config, tokenizer, tmp_path / "cache")
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert [path for path in (tmp_path / "cache").iterdir() if not path.name.startswith(".")] == []
    prepared = run(config, tokenizer, tmp_path)
    assert not prepared.report.cache_hit
    assert len(prepared.train) == 120
    left = [path for path in (tmp_path / "cache").iterdir() if path.is_dir()]
    assert [path.name for path in left] == [prepared.report.fingerprint]


def _prepare_once(config: Config, tokenizer: Any, root: Path, queue: Any) -> None:
    prepared = prepare(config, tokenizer, cache_root=root, on_progress=None)
    queue.put((prepared.report.cache_hit, len(prepared.train)))


def test_of_two_processes_one_prepares(data: Path, tokenizer: Any, tmp_path: Path) -> None:
    config = make_config(entry(data), folder=tmp_path)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [
        context.Process(target=_prepare_once, args=(config, tokenizer, tmp_path / "cache", queue)) for _ in range(3)
    ]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sorted(results) == [(False, 120), (True, 120), (True, 120)]


def test_mixing_sets_of_several_types(data: Path, tokenizer: Any, tmp_path: Path) -> None:
    alpaca = write_jsonl(tmp_path / "alpaca.jsonl", [{"instruction": "Add.", "output": "2"}] * 3)
    tokens = write_jsonl(tmp_path / "tokens.jsonl", [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}] * 2)
    config = make_config(entry(data), {"path": str(alpaca), "type": "alpaca"}, {"path": str(tokens)}, folder=tmp_path)
    prepared = run(config, tokenizer, tmp_path)
    assert [(source.type, source.rows) for source in prepared.report.sources] == [
        ("chat_template", 120),
        ("alpaca", 3),
        ("pretokenized", 2),
    ]
    assert (5, 6, 7) in sequences(prepared)
    assert json.loads(json.dumps(prepared.report.to_dict()))["rows_read"] == 125


def test_progress_crosses_processes() -> None:
    """A worker sends its lines to the process that shows them."""
    line = pickle.loads(pickle.dumps(RowsDone(800, 2000)))
    assert (line, line.done, line.total) == ("tokenized 800 of 2,000 rows", 800, 2000)
