"""Short ways from a preference row to its texts and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ftl_config import Config, load_text
from ftl_runner.data.convert import LengthRule, Tally
from ftl_runner.data.formats.preference_registry import Kind
from ftl_runner.data.preference.convert import PreferenceConverter

METHODS: dict[Kind, dict[str, Any]] = {
    "pair": {"rl": "dpo"},
    "unpaired": {"rl": "kto", "remove_unused_columns": False},
    "reward": {"reward_model": True},
    "steps": {"process_reward_model": True},
    "task": {"rl": "grpo", "trl": {"reward_funcs": ["own/reward-model"]}},
}


def preference_config(kind: Kind, *datasets: dict[str, Any], **keys: Any) -> Config:
    """A loaded config for a kind of data, through YAML as users write it."""
    values = {
        "base_model": "some/model",
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "sequence_len": 256,
        "chat_template": "chatml",
        "datasets": list(datasets) or [{"path": "x", "type": "passthrough"}],
        **METHODS[kind],
        **keys,
    }
    return load_text(yaml.safe_dump(values), data_only=True).config


def converter(kind: Kind, tokenizer: Any, spec: dict[str, Any], **keys: Any) -> PreferenceConverter:
    config = preference_config(kind, {"path": "x", **spec}, **keys)
    assert config.data.datasets is not None
    rule = LengthRule(config.data.sequence_len, config.data.excess_length_strategy or "drop")
    return PreferenceConverter(config.data.datasets[0], config, tokenizer, rule, kind)


def texts(kind: Kind, tokenizer: Any, row: Any, spec: dict[str, Any], **keys: Any) -> tuple[str, ...]:
    """The prompt, and the answer or answers behind it; a prompt alone for tasks."""
    convert = converter(kind, tokenizer, spec, **keys)
    rendered = convert.write(convert.example(row))
    if kind == "task":
        return (rendered[0].text,)
    prompts = {text.text[: text.spans[0].start] for text in rendered}
    assert len(prompts) == 1, "one prompt for both answers"
    return (prompts.pop(), *(text.text[text.spans[0].start :] for text in rendered))


def tokens(kind: Kind, tokenizer: Any, rows: list[Any], spec: dict[str, Any], **keys: Any) -> tuple[list[Any], Tally]:
    """Encoded rows that are kept, and the tally; a bad row is raised."""
    kept, rejected, tally = converter(kind, tokenizer, spec, **keys).convert(rows, 0)
    if rejected:
        raise rejected[0].error
    return kept, tally


def own_module(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code, encoding="utf-8")
