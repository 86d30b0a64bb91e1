"""prepare() for preference methods: columns as TRL takes them, split, counts, cache, errors with their place."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from ftl_config import ConfigError, load_text
from ftl_runner.data import prepare
from ftl_runner.data.errors import DataError
from ftl_runner.data.formats.preference_registry import Kind, kind_of
from ftl_runner.data.preference.preview import print_preferences
from ftl_runner.data.prepared import Prepared
from tests.unit.data.data_support import text_of, write_jsonl
from tests.unit.data.preference_support import own_module, preference_config

ROWS = [{"question": f"{n} + 1?", "chosen": f"{n + 1}", "rejected": f"{n} or so"} for n in range(20)]
JUDGED = [{"prompt": f"{n} + 1?", "completion": f"{n} is it", "label": bool(n % 2)} for n in range(20)]
STEPS = [{"prompt": "2 + 2 + 1?", "completions": ["2 + 2 = 4", "4 + 1 = 6"], "labels": [True, False]}]


def run(kind: Kind, rows: list[Any], type_: Any, tokenizer: Any, tmp_path: Path, **keys: Any) -> Prepared:
    path = write_jsonl(tmp_path / f"{kind}.jsonl", rows)
    config = preference_config(kind, {"path": str(path), "type": type_}, **keys)
    return prepare(config, tokenizer, cache_root=tmp_path / "cache")


def test_pairs(tokenizer: Any, tmp_path: Path) -> None:
    prepared = run("pair", ROWS, "chatml.intel", tokenizer, tmp_path, val_set_size=4)
    assert prepared.train.column_names == ["prompt_ids", "chosen_ids", "rejected_ids"]
    assert prepared.eval is not None
    assert (len(prepared.train), len(prepared.eval)) == (16, 4)
    found = {}
    for row in [*prepared.train, *prepared.eval]:
        parts = [text_of(tokenizer, row[name]) for name in prepared.train.column_names]
        found[parts[0]] = tuple(parts[1:])
    assert found == {
        f"<|im_start|>user\n{n} + 1?<|im_end|>\n<|im_start|>assistant\n": (f"{n + 1}<|im_end|>", f"{n} or so<|im_end|>")
        for n in range(20)
    }
    report = prepared.report
    assert report.tokens == sum(len(row[name]) for row in prepared.train for name in prepared.train.column_names)
    assert report.trained_tokens == sum(len(row["chosen_ids"] + row["rejected_ids"]) for row in prepared.train)
    assert "training set: 16 pairs" in "\n".join(report.lines())
    assert report.sources[0].chat_template == "chatml"


def test_unpaired(tokenizer: Any, tmp_path: Path) -> None:
    prepared = run("unpaired", JUDGED, "chatml.ultra", tokenizer, tmp_path)
    assert prepared.train.column_names == ["prompt_ids", "completion_ids", "label"]
    labels = {text_of(tokenizer, row["completion_ids"]): row["label"] for row in prepared.train}
    assert labels == {f"{row['completion']}<|im_end|>": row["label"] for row in JUDGED}


def test_reward_pairs_hold_the_prompt_twice(tokenizer: Any, tmp_path: Path) -> None:
    row = {"input": "Q", "chosen": "good", "rejected": "bad"}
    prepared = run("reward", [row], "bradley_terry.chat_template", tokenizer, tmp_path)
    assert prepared.train.column_names == ["chosen_ids", "rejected_ids"]
    ask = "<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\n"
    assert text_of(tokenizer, prepared.train[0]["chosen_ids"]) == f"{ask}good<|im_end|>"
    assert text_of(tokenizer, prepared.train[0]["rejected_ids"]) == f"{ask}bad<|im_end|>"


def test_steps(tokenizer: Any, tmp_path: Path) -> None:
    row = run("steps", STEPS, "stepwise_supervised", tokenizer, tmp_path).train[0]
    assert text_of(tokenizer, row["input_ids"]) == "2 + 2 + 1?2 + 2 = 4\n4 + 1 = 6\n"
    assert [label for label in row["labels"] if label != -100] == [1, 0]
    assert row["labels"][-1] == 0


def test_tasks_keep_their_columns_whatever_rows_lack(tokenizer: Any, tmp_path: Path) -> None:
    question = [{"role": "user", "content": "2 + 2?"}]
    rows = [
        {"prompt": question, "answer": 4},
        {"prompt": question, "answer": 4.5, "why": "é\u2028"},
        {"prompt": question},
    ]
    prepared = run("task", rows, "passthrough", tokenizer, tmp_path, shuffle_merged_datasets=False)
    assert prepared.train.to_list() == [
        {"prompt": question, "answer": 4.0, "why": None},
        {"prompt": question, "answer": 4.5, "why": "é\u2028"},
        {"prompt": question, "answer": None, "why": None},
    ]
    with pytest.raises(DataError, match="a column of the prompts has different types in different rows"):
        run("task", [*rows, {"prompt": question, "answer": "four"}], "passthrough", tokenizer, tmp_path)


def test_processes_give_the_same_set(tokenizer: Any, tmp_path: Path) -> None:
    rows = [{"prompt": row["question"], "n": number} for number, row in enumerate(ROWS * 90)]
    one = run("task", rows, "passthrough", tokenizer, tmp_path, dataset_num_proc=1)
    path = str(tmp_path / "task.jsonl")
    config = preference_config("task", {"path": path, "type": "passthrough"}, dataset_num_proc=2)
    two = prepare(config, tokenizer, cache_root=tmp_path / "two")
    assert one.train.to_list() == two.train.to_list()
    assert sorted(one.train["n"]) == list(range(1800))


def test_the_cache_knows_what_changes_a_set(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def pairs(row):\n    return {'prompt': row['question'], 'chosen': row['chosen'], 'rejected': 'no'}\n"
    own_module(tmp_path, "own_pairs", code)
    monkeypatch.syspath_prepend(str(tmp_path))

    def fingerprint(type_: str = "chatml.intel", kind: Kind = "pair", **keys: Any) -> str:
        return run(kind, ROWS, type_, tokenizer, tmp_path, **keys).report.fingerprint

    first = fingerprint()
    assert run("pair", ROWS, "chatml.intel", tokenizer, tmp_path).report.cache_hit
    assert fingerprint(learning_rate=2e-4) == first, "no key of the data"
    assert fingerprint(rl="orpo") == first, "ORPO trains on the same pairs"
    others = [
        fingerprint(max_prompt_len=100),
        fingerprint("llama3.intel"),
        fingerprint("own_pairs.pairs"),
        fingerprint(default_system_message="Be brief."),
    ]
    assert len({first, *others}) == 5


def test_a_bad_row_is_named_with_its_line_or_listed(tokenizer: Any, tmp_path: Path) -> None:
    rows = [ROWS[0], {"question": "x", "chosen": "y"}, *ROWS[1:]]
    with pytest.raises(DataError, match=r"pair\.jsonl, line 2: no field 'rejected'"):
        run("pair", rows, "chatml.intel", tokenizer, tmp_path)
    prepared = run("pair", rows, "chatml.intel", tokenizer, tmp_path, skip_bad_rows=True)
    assert len(prepared.train) == 20
    assert prepared.report.rows_dropped == {"bad": 1}
    assert prepared.report.rejected_path is not None
    [told] = [json.loads(line) for line in Path(prepared.report.rejected_path).read_text().splitlines()]
    assert told["place"].endswith("pair.jsonl, line 2")


def test_what_is_dropped_or_cut_is_said(tokenizer: Any, tmp_path: Path) -> None:
    rows = [*ROWS[:3], {"question": "x", "chosen": "y", "rejected": "y"}]
    dropped = run("pair", rows, "chatml.intel", tokenizer, tmp_path)
    assert "4 read, 1 dropped (1 same answers)" in dropped.report.lines()[0]
    keys = {"max_prompt_len": 6, "excess_length_strategy": "truncate"}
    cut = run("pair", rows, "chatml.intel", tokenizer, tmp_path, **keys)
    lost = sum(len(row["prompt_ids"]) for row in dropped.train) - sum(len(row["prompt_ids"]) for row in cut.train)
    assert lost > 0
    assert f"prompts were cut to max_prompt_len 6: {lost} tokens are lost" in "\n".join(cut.report.lines())
    with pytest.raises(DataError, match="no row is left to train on, of 1 read: 1 same answers"):
        run("pair", rows[3:], "chatml.intel", tokenizer, tmp_path)


def test_the_preview_shows_each_part(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = run("pair", ROWS[:1], "chatml.intel", tokenizer, tmp_path)
    out = io.StringIO()
    print_preferences(pairs.train, tokenizer, 5, out)
    lines = out.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines if line.endswith("tokens")] == ["prompt", "chosen", "rejected"]
    assert "1(33) <|im_end|>(2)" in lines
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_preferences(pairs.train, tokenizer, 1, out)
    assert "\x1b[32m<|im_end|>(2)\x1b[0m" in out.getvalue()
    assert "\x1b[31m<|im_start|>(1)\x1b[0m" in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    out = io.StringIO()
    print_preferences(run("steps", STEPS, "stepwise_supervised", tokenizer, tmp_path).train, tokenizer, 1, out)
    assert "\\n(right, 198)" in out.getvalue()
    assert "\\n(wrong, 198)" in out.getvalue()


def test_reward_functions_are_looked_for_before_anything_is_tokenized(tokenizer: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trl\.reward_funcs: nowhere\.score: no module 'nowhere'"):
        run("task", [{"prompt": "Q"}], "passthrough", tokenizer, tmp_path, trl={"reward_funcs": ["nowhere.score"]})


CONFIG = """\
base_model: x
rl: dpo
max_prompt_len: 10
datasets:
  - path: x
    type: chat_template.default
    field_chosen: better
micro_batch_size: 1
gradient_accumulation_steps: 1
learning_rate: 1e-4
"""


def test_preparing_knows_keys_that_training_does_not_yet() -> None:
    text = CONFIG + "ebft: {mode: strided}\n"
    assert load_text(text, data_only=True).config.preference.rl == "dpo"
    with pytest.raises(ConfigError) as caught:
        load_text(text)
    refused = {problem.key for problem in caught.value.problems if problem.severity == "error"}
    assert refused == {"ebft", "datasets[0].field_chosen"}
    with pytest.raises(ConfigError, match="not yet supported: FP8 training"):
        load_text(CONFIG + "fp8: true\n", data_only=True)


def test_a_method_whose_data_is_not_known_is_refused() -> None:
    config = load_text(
        CONFIG.replace("rl: dpo", "rl: ebft\nebft: {mode: strided}"), data_only=True, statuses=False, partial=True
    ).config
    with pytest.raises(DataError, match="rl: ebft: its data cannot be prepared yet"):
        kind_of(config)


@pytest.mark.slow
def test_columns_are_those_that_trl_collates(tokenizer: Any, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    from trl.trainer.dpo_trainer import DataCollatorForPreference as PairCollator
    from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference
    from trl.trainer.reward_trainer import DataCollatorForPreference as RewardCollator

    pairs = run("pair", ROWS[:2], "chatml.intel", tokenizer, tmp_path).train
    batch = PairCollator(pad_token_id=0)(list(pairs))
    for number, answer in enumerate(("chosen_ids", "rejected_ids")):
        ids, mask = batch["input_ids"][2 * number], batch["completion_mask"][2 * number]
        assert ids[mask == 1].tolist() == pairs[0][answer]
        assert ids[: len(pairs[0]["prompt_ids"])].tolist() == pairs[0]["prompt_ids"]
    judged = run("unpaired", JUDGED[:2], "chatml.ultra", tokenizer, tmp_path).train
    batch = DataCollatorForUnpairedPreference(pad_token_id=0)(list(judged))
    assert [bool(label) for label in batch["label"]] == judged["label"][:]
    rewards = run(
        "reward", [{"input": "Q", "chosen": "a", "rejected": "b c"}], "bradley_terry.llama3", tokenizer, tmp_path
    )
    batch = RewardCollator(pad_token_id=0)(list(rewards.train))
    assert batch["input_ids"][0][batch["attention_mask"][0] == 1].tolist() == rewards.train[0]["chosen_ids"]
