"""Prompts that a trainer writes itself are those that the data was prepared with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ftl_runner.data.errors import DataError
from ftl_runner.data.preference.tasks import task_template
from tests.unit.data.preference_support import converter, preference_config, texts

SPECIAL = ("<|im_start|>", "<|im_end|>", "<think>", "</think>")


def test_the_trainer_writes_prompts_as_they_were_prepared(load_tokenizer: Any) -> None:
    """GRPO's trainer asks the tokenizer for the prompt: it gets the template and variables of the data."""
    tokenizer = load_tokenizer(*SPECIAL, bos="<s>", eos="</s>")
    keys = {
        "chat_template": "qwen3",
        "chat_template_kwargs": {"enable_thinking": False},
        "default_system_message": "Be.",
    }
    row = {"prompt": [{"role": "user", "content": "2 + 2?"}]}
    [prepared] = texts("task", tokenizer, row, {}, **keys)
    convert = converter("task", tokenizer, {}, **keys)
    [encoded], _, _ = convert.convert([row], 0)
    tokenizer.chat_template, variables = task_template(preference_config("task", {"path": "x"}, **keys), tokenizer)
    messages = json.loads(encoded.extra)["prompt"]
    written = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False, **variables)
    assert written == prepared
    assert "Be." in written
    assert written.endswith("</think>\n\n"), "the variable is heard"


def test_one_template_for_all_prompts(load_tokenizer: Any) -> None:
    tokenizer = load_tokenizer(*SPECIAL, bos="<s>", eos="</s>")
    config = preference_config("task", {"path": "x"}, {"path": "y", "chat_template": "llama3"})
    with pytest.raises(DataError, match="different chat templates"):
        task_template(config, tokenizer)
