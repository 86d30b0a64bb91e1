"""`ftl preprocess` on configs of preference methods, as a user runs it: what is prepared, shown and refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.ftl_cli import Ftl

CONFIG = """\
base_model: {model}
chat_template: chatml
datasets:
  - path: rows.jsonl
    type: {type}
dataset_prepared_path: prepared
output_dir: out
micro_batch_size: 1
gradient_accumulation_steps: 1
learning_rate: 1e-4
{keys}
"""


@pytest.fixture
def ftl(tmp_path: Path) -> Ftl:
    return Ftl(tmp_path / "home", tmp_path, {})


def write(folder: Path, model: Path, type_: str, keys: str, rows: list[Any]) -> None:
    (folder / "config.yml").write_text(CONFIG.format(model=model, type=type_, keys=keys))
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


ANSWERS = {"chosen": "4", "rejected": "five"}
CASES = [
    (
        "rl: dpo",
        "chat_template.default",
        {"messages": [{"role": "user", "content": "2 + 2?"}], **ANSWERS},
        ("1 pairs", "prompt: 14 tokens", "chosen: 2 tokens\n4(36) <|im_end|>(2)", "rejected: 2 tokens\nfive(14013)"),
    ),
    (
        "rl: kto\nremove_unused_columns: false",
        "chatml.intel",
        {"question": "2 + 2?", "completion": "4", "label": False},
        ("1 answers", "prompt: 14 tokens", "completion: 2 tokens\n4(36) <|im_end|>(2)", "label: False"),
    ),
    (
        "reward_model: true",
        "bradley_terry.chat_template",
        {"input": "2 + 2?", **ANSWERS},
        ("1 pairs", "chosen: 16 tokens", "rejected: 16 tokens"),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("keys", "type_", "row", "says"), CASES, ids=["dpo", "kto", "reward"])
def test_a_set_is_prepared_and_shown(
    keys: str, type_: str, row: Any, says: tuple[str, ...], ftl: Ftl, tmp_path: Path, tiny_model: Path
) -> None:
    write(tmp_path, tiny_model, type_, keys, [row])
    shown = ftl.run("preprocess", "config.yml", "--debug", "--micro-batch-size", "2").stdout
    for wanted in says:
        assert wanted in shown, shown
    assert list((tmp_path / "prepared").glob("*/train.arrow"))
