"""Preference data that a tiny model learns in seconds, and the trainers as the methods make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml
from datasets import Dataset
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from ftl_config import Config
from ftl_runner.methods.dpo import dpo_options
from ftl_runner.methods.kto import kto_options
from ftl_runner.methods.orpo import orpo_options
from ftl_runner.methods.preference import adapter_starts_at_zero
from ftl_runner.methods.simpo import simpo_options
from ftl_runner.models.adapter import add_adapter
from ftl_runner.trainer.arguments import make_arguments, make_schedule
from tests.unit.runner.snippets import CPU, config_of
from tests.unit.runner.tiny_models import VOCABULARY, tiny_causal_model

GOOD_WORDS, BAD_WORDS = (100, 105), (200, 205)

BASE = """\
learning_rate: 5e-3
optimizer: adamw_torch
lr_scheduler: constant
warmup_steps: 0
micro_batch_size: 8
gradient_accumulation_steps: 1
logging_steps: 1
save_strategy: 'no'
remove_unused_columns: false
sequence_len: 24
seed: 3
"""


def small_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word; only its pad token is looked at."""
    words = {f"w{number}": number for number in range(VOCABULARY)}
    backend = Tokenizer(models.WordLevel(words, unk_token="w1"))
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="w0", eos_token="w2", unk_token="w1")


def pairs(count: int = 32) -> Dataset:
    """Answers of good words are chosen, those of bad words rejected; lengths differ from row to row."""
    random = np.random.default_rng(5)

    def words(low: int, high: int, longest: int) -> list[int]:
        return [int(word) for word in random.integers(low, high, random.integers(2, longest))]

    rows = [(words(3, 100, 8), words(*GOOD_WORDS, 9), words(*BAD_WORDS, 9)) for _ in range(count)]
    return Dataset.from_list([{"prompt_ids": p, "chosen_ids": c, "rejected_ids": r} for p, c, r in rows])


def judged(count: int = 32) -> Dataset:
    """The same answers one by one, good and bad in turn."""
    rows = []
    for number, pair in enumerate(pairs(count)):
        good = number % 2 == 0
        answer = pair["chosen_ids" if good else "rejected_ids"]
        rows.append({"prompt_ids": pair["prompt_ids"], "completion_ids": answer, "label": good})
    return Dataset.from_list(rows)


def trainer_of(lines: str, folder: Path, *, evaluation: Any = None, model: Any = None, rows: Any = None) -> Any:
    """The trainer of ``rl`` as its method makes it, for a random model of two layers; a full fine-tune has a copy."""
    settings = yaml.safe_load(BASE) | yaml.safe_load(lines) | {"output_dir": str(folder)}
    config = config_of(yaml.safe_dump(settings | ({"test_datasets": [{"path": "x"}]} if evaluation else {})))
    method = config.preference.rl
    rows = rows or (judged() if method == "kto" else pairs())
    base = tiny_causal_model("llama") if model is None else model
    given = {
        "config": config,
        "model": add_adapter(base, config),
        "train_dataset": rows,
        "eval_dataset": evaluation,
    }
    make = _without_reference if method in ("orpo", "simpo") else _with_reference
    return make(config, method, given, len(rows))


def _with_reference(config: Config, method: str, given: dict[str, Any], num_rows: int) -> Any:
    from trl import DPOConfig, KTOConfig

    from ftl_runner.trainer.preference_trainers import DpoTrainer, KtoTrainer, MismatchedCollator

    kind, options = (KTOConfig, kto_options(config)) if method == "kto" else (DPOConfig, dpo_options(config))
    arguments = make_arguments(config, CPU, make_schedule(config, num_rows, 1), kind=kind, options=options)
    alone = config.adapter.adapter is None and not config.preference.precompute_ref_log_probs
    given |= {
        "args": arguments,
        "ref_model": tiny_causal_model("llama").requires_grad_(False) if alone else None,
        "adapter_starts_at_zero": adapter_starts_at_zero(config),
        "processing_class": small_tokenizer(),
    }
    if method == "kto":
        collate = MismatchedCollator(small_tokenizer(), config.data.sequence_len, None)
        return KtoTrainer(**given, data_collator=collate)
    return DpoTrainer(**given)


def _without_reference(config: Config, method: str, given: dict[str, Any], num_rows: int) -> Any:
    from ftl_runner.trainer.reference_free import OrpoTrainer, SimpoTrainer

    given |= {
        "args": make_arguments(config, CPU, make_schedule(config, num_rows, 1)),
        "processing_class": small_tokenizer(),
        "multiple": None,
    }
    if method == "orpo":
        return OrpoTrainer(**given, **orpo_options(config))
    return SimpoTrainer(**given, **simpo_options(config))


def history(trainer: Any, name: str) -> list[float]:
    """A metric at each step where it was logged."""
    return [row[name] for row in trainer.state.log_history if name in row]


def first_batch(trainer: Any, count: int = 8) -> Any:
    return trainer.data_collator([trainer.train_dataset[number] for number in range(count)])
