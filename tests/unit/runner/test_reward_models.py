"""Reward models learn to tell answers apart, and process reward models steps; what is saved scores the same."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification

from ftl_config import load_text
from ftl_config.errors import FtlError
from ftl_runner.data.preference.convert import GOOD
from ftl_runner.evaluate import evaluate
from ftl_runner.inference import load_for_inference, run_inference
from ftl_runner.merge import merge_lora
from ftl_runner.methods.reward_model import reward_options
from ftl_runner.models.adapter import lora_config
from ftl_runner.models.heads import default_class
from tests.unit.runner.one_run import run_once, write_rows
from tests.unit.runner.snippets import config_of, tiny_llama

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
LORA = {"adapter": "lora", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "lora_target_linear": True}


def test_arguments_from_keys() -> None:
    """TRL would drop rows over 1,024 tokens and switch dropout off."""
    assert reward_options(config_of("reward_model: true\n")) == {
        "max_length": None,
        "pad_to_multiple_of": None,
        "disable_dropout": False,
        "center_rewards_coefficient": None,
    }
    lines = "reward_model: true\ncenter_rewards_coefficient: 0.01\nsequence_len: 96\npad_to_sequence_len: true\n"
    options = reward_options(config_of(lines))
    assert (options["center_rewards_coefficient"], options["pad_to_multiple_of"]) == (0.01, 96)
    assert reward_options(config_of("reward_model: true\npad_to_multiple_of: 8\n"))["pad_to_multiple_of"] == 8


@pytest.mark.parametrize(
    ("lines", "name", "task"),
    [
        ("", "AutoModelForCausalLM", "CAUSAL_LM"),
        ("reward_model: true\n", "AutoModelForSequenceClassification", "SEQ_CLS"),
        ("process_reward_model: true\n", "AutoModelForTokenClassification", "TOKEN_CLS"),
    ],
)
def test_class_and_task_follow_the_method(lines: str, name: str, task: str) -> None:
    config = config_of(lines + "adapter: lora\nlora_target_modules: [q_proj]\n")
    assert default_class(config) == name
    made = lora_config(config, tiny_llama())
    assert made.task_type == task
    assert made.exclude_modules == (None if task == "CAUSAL_LM" else {"score"})


def test_a_pattern_of_exclusions_keeps_the_head_out_too() -> None:
    lines = "reward_model: true\nadapter: lora\nlora_target_modules: [q_proj]\nlora_exclude_modules: '.*up_proj'\n"
    assert lora_config(config_of(lines), tiny_llama()).exclude_modules == r"(?:.*up_proj)|(?:.*\.)?(?:score)"


def pairs(count: int, seed: int) -> list[dict[str, str]]:
    """The better answer has the word ``good`` in it and the worse one ``bad``, amid the same noise."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        before, behind = draw.choices(WORDS, k=2), draw.choices(WORDS, k=3)
        answer = {name: " ".join([*before, word, *behind]) for name, word in (("chosen", "good"), ("rejected", "bad"))}
        rows.append({"input": " ".join(draw.choices(WORDS, k=4)), **answer})
    return rows


def settings(model: Path, folder: Path, rows: str, held_out: str, **keys: Any) -> dict[str, Any]:
    kind = "bradley_terry.chat_template" if keys.get("reward_model") else "stepwise_supervised"
    return {
        "base_model": str(model),
        "chat_template": "chatml",
        "datasets": [{"path": rows, "type": kind}],
        "test_datasets": [{"path": held_out, "type": kind, "split": "train"}],
        "dataset_prepared_path": str(folder / "prepared"),
        "sequence_len": 96,
        "output_dir": str(folder / "out"),
        "micro_batch_size": 16,
        "gradient_accumulation_steps": 1,
        "learning_rate": 3e-3,
        "lr_scheduler": "constant",
        "optimizer": "adamw_torch",
        "warmup_steps": 0,
        "logging_steps": 1,
        "save_strategy": "no",
        "seed": 3,
        **keys,
    }


@pytest.fixture
def reward_settings(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    rows, held_out = (write_rows(tmp_path / f"{seed}.jsonl", pairs(count, seed)) for count, seed in ((192, 1), (32, 2)))
    return settings(tiny_model, tmp_path, rows, held_out, reward_model=True, max_steps=24)


@pytest.mark.slow
def test_a_reward_model_learns_which_answer_is_better(reward_settings: dict[str, Any]) -> None:
    run = run_once(reward_settings)
    losses, accuracy = run.history("loss"), run.history("accuracy")
    assert losses[0] == pytest.approx(math.log(2), abs=0.1), "a fresh head tells nothing apart"
    assert run.history("eval_accuracy")[-1] == 1.0
    assert sum(accuracy[-3:]) / 3 > 0.95


@pytest.mark.slow
def test_adapter_and_head_are_resumed_saved_and_merged(reward_settings: dict[str, Any], tmp_path: Path) -> None:
    """Stopped and resumed, the run is the one that was not stopped; the saved adapter and its merge score alike."""
    keys = {**LORA, "max_steps": 6, "save_strategy": "steps", "save_steps": 3, "test_datasets": None}
    whole = run_once(reward_settings | keys | {"output_dir": str(tmp_path / "whole")})
    stopped = run_once(reward_settings | keys, stop_at=2)
    assert (stopped.outcome.status, stopped.outcome.step) == ("stopped", 3)
    resumed = run_once(reward_settings | keys, resume=True)
    assert resumed.history("loss") == pytest.approx(whole.history("loss"), rel=1e-6)
    assert resumed.history("margin") == pytest.approx(whole.history("margin"), rel=1e-6)

    config = load_text(yaml.safe_dump(reward_settings | keys)).config
    model, tokenizer = load_for_inference(config)
    scores = scores_of(model, tokenizer)
    head = model.get_base_model().score
    assert not torch.equal(head.original_module.weight, head.modules_to_save["default"].weight)
    merged = AutoModelForSequenceClassification.from_pretrained(merge_lora(config))
    assert merged.config.pad_token_id == tokenizer.pad_token_id
    torch.testing.assert_close(scores_of(merged.eval(), tokenizer), scores, rtol=1e-4, atol=1e-5)
    with pytest.raises(FtlError, match="scores text and writes none"):
        run_inference(config, chat=False, max_new_tokens=1)
    with pytest.raises(FtlError, match="not what reward_model trains"):
        evaluate(config)


@pytest.mark.slow
@pytest.mark.parametrize("base", [{"adapter": "qlora", "load_in_4bit": True}, {"bf16": True}], ids=["4bit", "bf16"])
def test_what_is_trained_is_kept_in_full(base: dict[str, Any], reward_settings: dict[str, Any]) -> None:
    """In bfloat16, TRL's choice beside a quantized base, small steps are lost; and float32 cannot compute with it."""
    run = run_once(reward_settings | LORA | base | {"max_steps": 2, "test_datasets": None})
    saved = load_file(run.folder / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    assert any(name.endswith("score.weight") for name in saved)


def scores_of(model: Any, tokenizer: Any) -> torch.Tensor:
    """Scores of two texts of different lengths, in one padded batch."""
    batch = tokenizer(["one good two", "a bad one and four more"], return_tensors="pt", padding=True)
    with torch.no_grad():
        scores: torch.Tensor = model(**batch).logits
    return scores


def solutions(count: int, seed: int) -> list[dict[str, Any]]:
    """A step with the word ``bad`` in it is wrong."""
    draw = random.Random(seed)
    rows = []
    for _ in range(count):
        right = [draw.random() < 0.6 for _ in range(draw.randint(1, 4))]
        steps = [" ".join([draw.choice(WORDS), "good" if each else "bad", *draw.choices(WORDS, k=2)]) for each in right]
        rows.append({"prompt": " ".join(draw.choices(WORDS, k=4)), "completions": steps, "labels": right})
    return rows


@pytest.fixture
def step_settings(tiny_model: Path, tmp_path: Path) -> dict[str, Any]:
    sets = ((192, 1), (32, 2))
    rows, held_out = (write_rows(tmp_path / f"{seed}.jsonl", solutions(count, seed)) for count, seed in sets)
    return settings(tiny_model, tmp_path, rows, held_out, process_reward_model=True, max_steps=24)


@pytest.mark.slow
def test_a_process_reward_model_learns_which_steps_are_wrong(step_settings: dict[str, Any]) -> None:
    run = run_once(step_settings)
    losses = run.history("loss")
    assert losses[0] == pytest.approx(math.log(2), abs=0.1), "a fresh head knows nothing"
    assert run.history("eval_accuracy")[-1] > 0.95
    assert run.history("eval_wrong_steps_found")[-1] > 0.9


@pytest.mark.slow
def test_steps_are_learnt_with_an_adapter_too(step_settings: dict[str, Any]) -> None:
    """And the saved head says what the trained one said."""
    run = run_once(step_settings | LORA | {"lora_r": 16, "lora_alpha": 64, "learning_rate": 1e-2})
    assert run.history("eval_accuracy")[-1] > 0.9
    config = load_text(yaml.safe_dump(step_settings | LORA)).config
    model, tokenizer = load_for_inference(config)
    answers = []
    for row in solutions(32, seed=2):
        batch = tokenizer("\n".join([row["prompt"], *row["completions"], ""]), return_tensors="pt")
        with torch.no_grad():
            judged = model(**batch).logits.argmax(-1)[0]
        ends = [at for at, token in enumerate(batch["input_ids"][0]) if tokenizer.decode(token) == "\n"]
        expected = [GOOD if right else 1 - GOOD for right in row["labels"]]
        answers += [said == wanted for said, wanted in zip(judged[ends[1:]].tolist(), expected, strict=True)]
    assert sum(answers) / len(answers) > 0.9, "the held-out rows, as the evaluation had them"
    merged = AutoModelForTokenClassification.from_pretrained(merge_lora(config)).eval()
    with torch.no_grad():
        torch.testing.assert_close(merged(**batch).logits, model(**batch).logits, rtol=1e-4, atol=1e-4)
