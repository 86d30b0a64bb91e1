"""Inference prompts are prefixes of the training text; samples come from the data; previews show labels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from ftl_config import Config
from ftl_runner.data import first_rows, list_types, prepare, render_prompt, sample_prompts
from ftl_runner.data.preview import print_examples, print_report
from tests.unit.data.data_support import chat_row, make_config, text_of, write_jsonl
from tests.unit.data.preference_support import preference_config

CHAT = chat_row("Why?", "Because.", "And then?", "Nothing.", system="Be brief.")
OWN = {"field_instruction": "q", "field_output": "a", "format": "Q {instruction} A "}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "chat": ({"type": "chat_template", "chat_template": "chatml"}, CHAT),
    "alpaca": ({"type": "alpaca"}, {"instruction": "Add 1 and 1.", "output": "2"}),
    "alpaca-system": ({"type": "alpaca_w_system.load_open_orca_chatml"}, {"question": "1 + 1?", "response": "2"}),
    "question": ({"type": "alpaca_chat.load_qa"}, {"question": "Capital of Peru?", "answer": "Lima"}),
    "input-output": ({"type": "input_output"}, {"input": "1 + 1 = ", "output": "2"}),
    "own": (
        {"type": {"field_instruction": "q", "field_output": "a", "format": "Q {instruction} A "}},
        {"q": "x", "a": "y"},
    ),
    "completion": ({"type": "completion"}, {"text": "Once upon a time"}),
}


def config_for(kind: str, tmp_path: Path) -> Config:
    spec, row = KINDS[kind]
    return make_config({"path": str(write_jsonl(tmp_path / "a.jsonl", [row])), **spec}, folder=tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_sample_prompts_are_prefixes_of_the_training_text(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    config = config_for(kind, tmp_path)
    prepared = prepare(config, tokenizer, cache_root=tmp_path / "cache", on_progress=None)
    text = text_of(tokenizer, prepared.train[0]["input_ids"])
    (sample,) = sample_prompts(config, tokenizer, 5)
    assert text.startswith(sample.prompt)
    if kind != "completion":
        assert text.startswith(sample.prompt + sample.answer)
        ids = tokenizer.encode(sample.prompt, add_special_tokens=False)
        assert prepared.train[0]["input_ids"][: len(ids)] == ids
        assert set(prepared.train[0]["labels"][: len(ids)]) <= {-100} or kind == "chat"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "completion"])
def test_a_typed_prompt_is_written_as_in_training(kind: str, tokenizer: Any, tmp_path: Path) -> None:
    config = config_for(kind, tmp_path)
    messages = first_rows(config, 1)[0]
    row = KINDS[kind][1]
    if kind != "chat":
        messages = [{"role": "user", "content": next(iter(row.values()))}]
    (sample,) = sample_prompts(config, tokenizer, 1)
    assert render_prompt(config, tokenizer, messages) == sample.prompt


def test_first_rows_are_prompts_as_messages(tmp_path: Path) -> None:
    assert first_rows(config_for("chat", tmp_path), 3) == [
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because."},
            {"role": "user", "content": "And then?"},
        ]
    ]


@pytest.mark.parametrize("packed", [False, True])
def test_a_preview_shows_labels_and_ids(tokenizer: Any, tmp_path: Path, packed: bool, monkeypatch: Any) -> None:
    rows = [chat_row(f"Why {n}?", "Because.") for n in range(3)]
    entry = {"path": str(write_jsonl(tmp_path / "a.jsonl", rows)), **KINDS["chat"][0]}
    prepared = prepare(
        make_config(entry, folder=tmp_path, sample_packing=packed), tokenizer, cache_root=tmp_path, on_progress=None
    )
    plain, coloured, report = io.StringIO(), io.StringIO(), io.StringIO()
    print_examples(prepared.train, tokenizer, 1, plain)
    token = tokenizer.encode("Because", add_special_tokens=False)[0]
    assert f"Because({token}, {token})" in plain.getvalue()
    assert "user(-100, " in plain.getvalue()
    assert ("next sequence of this packed row" in plain.getvalue()) == packed
    assert "\x1b" not in plain.getvalue()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_examples(prepared.train, tokenizer, 1, coloured)
    assert f"\x1b[32mBecause({token}, {token})\x1b[0m" in coloured.getvalue()
    print_report(prepared.report, report)
    assert "3 read, 0 dropped" in report.getvalue()
    assert str(tmp_path) in report.getvalue()


def test_every_type_is_listed_with_a_sample() -> None:
    names = dict(dict(list_types())["supervised fine-tuning"])
    assert names["alpaca"] == {"instruction": "Add.", "input": "1 + 1", "output": "2"}
    assert len(names) > 25


PREFERENCES: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "messages": (
        "pair",
        "chat_template.default",
        {"messages": [{"role": "user", "content": "Why?"}], "chosen": "Because.", "rejected": "No."},
    ),
    "columns": ("pair", "chatml.intel", {"question": "Why?", "chosen": "Because.", "rejected": "No."}),
    "text": ("pair", "passthrough", {"prompt": "Why? ", "chosen": "Because.", "rejected": "No."}),
    "judged": ("unpaired", "chatml.intel", {"question": "Why?", "completion": "Because.", "label": True}),
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_preference_data_gives_the_prompts_that_answers_stand_behind(name: str, tokenizer: Any, tmp_path: Path) -> None:
    kind, type_, row = PREFERENCES[name]
    path = str(write_jsonl(tmp_path / "a.jsonl", [{"question": 1}, row]))
    config = preference_config(kind, {"path": path, "type": type_}, skip_bad_rows=True)
    prepared = prepare(config, tokenizer, cache_root=tmp_path / "cache", on_progress=None)
    (sample,) = sample_prompts(config, tokenizer, 5)
    assert sample.prompt == text_of(tokenizer, prepared.train[0]["prompt_ids"])
    assert sample.question == "Why?"
    answer = prepared.train[0]["completion_ids" if kind == "unpaired" else "chosen_ids"]
    assert sample.answer == text_of(tokenizer, answer)
    typed = render_prompt(config, tokenizer, [{"role": "user", "content": "Why? " if name == "text" else "Why?"}])
    assert typed == sample.prompt
