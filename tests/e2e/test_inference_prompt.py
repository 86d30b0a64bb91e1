"""What `ftl inference` gives the model is the beginning of what `ftl preprocess` prepared for training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.ftl_cli import Ftl


@pytest.mark.slow
def test_prompt_is_a_prefix_of_the_training_text(tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer

    row = {"messages": [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "Because."}]}
    (tmp_path / "data.jsonl").write_text(json.dumps(row) + "\n")
    config: dict[str, Any] = {
        "base_model": str(tiny_model),
        "special_tokens": {"eos_token": "<|eot_id|>"},
        "tokens": ["<|start_header_id|>", "<|end_header_id|>"],
        "datasets": [{"path": "data.jsonl", "type": "chat_template", "chat_template": "llama3"}],
        "default_system_message": "Be brief.",
        "dataset_prepared_path": "prepared",
        "output_dir": "out",
        "sequence_len": 128,
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-4,
    }
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))
    ftl = Ftl(tmp_path / "home", tmp_path, {})
    ftl.run("preprocess", "config.yml")
    (arrow,) = (tmp_path / "prepared").glob("*/train.arrow")
    ids = Dataset.from_file(str(arrow))[0]["input_ids"]
    shown = ftl.run("inference", "config.yml", "--show-prompt", "--max-new-tokens", "1", stdin="Why?").stderr
    prompt = json.loads(next(line for line in shown.splitlines() if line.startswith("prompt: "))[8:])
    assert prompt.endswith("Why?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n")
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    tokenizer.add_special_tokens({"eos_token": "<|eot_id|>"})
    tokenizer.add_tokens(["<|start_header_id|>", "<|end_header_id|>"])
    begin = tokenizer.encode(prompt, add_special_tokens=False)
    assert ids[: len(begin)] == begin
    assert tokenizer.decode(ids[len(begin) :]) == "Because.<|eot_id|>"
