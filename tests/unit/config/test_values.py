"""Types: what a key takes, what is converted, and how a wrong value is named."""

from __future__ import annotations

import pytest

from ftl_config import load_text
from ftl_config.keys import value_of
from tests.unit.config.configs import errors_of, load


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("learning_rate: 2e-4", "learning_rate", 2e-4),
        ("learning_rate: '2e-4'", "learning_rate", 2e-4),
        ("learning_rate: 1", "learning_rate", 1.0),
        ("micro_batch_size: '4'", "micro_batch_size", 4),
        ("num_epochs: 3", "num_epochs", 3.0),
        ("bf16: auto", "bf16", "auto"),
        ("bf16: full", "bf16", "full"),
        ("bf16: yes", "bf16", True),
        ("bf16:", "bf16", None),
        ("tf32:", "tf32", None),
        ("fp16:", "fp16", None),
        ("micro_batch_size:", "micro_batch_size", 1),
        ("wandb_name: 007", "wandb_name", "007"),
        ("wandb_name: 2024-01-01", "wandb_name", "2024-01-01"),
        ("wandb_name: 1e3", "wandb_name", "1e3"),
        ("wandb_watch: false", "wandb_watch", False),
        ("eval_strategy: no", "eval_strategy", "no"),
        ("save_strategy: no", "save_strategy", "no"),
        ("save_steps: 0.25", "save_steps", 0.25),
        ("save_steps: 100", "save_steps", 100),
        ("warmup_steps: false", "warmup_steps", None),
        ("lora_target_modules: all-linear", "lora_target_modules", "all-linear"),
        ("lora_target_modules: [q_proj]", "lora_target_modules", ("q_proj",)),
        ("peft_init_lora_weights: pissa", "peft_init_lora_weights", "pissa"),
        ("peft_init_lora_weights: false", "peft_init_lora_weights", False),
        ("model_config: {rope_theta: 1e6}", "model_config", {"rope_theta": 1e6}),
        ("deepspeed: {zero_optimization: {stage: 2}}", "deepspeed", {"zero_optimization": {"stage": 2}}),
        ("resume_from_checkpoint: true", "resume_from_checkpoint", True),
        ("resume_from_checkpoint: out/checkpoint-10", "resume_from_checkpoint", "out/checkpoint-10"),
        ("added_tokens_overrides: {128041: '<x>'}", "added_tokens_overrides", {128041: "<x>"}),
    ],
)
def test_values_that_fit(line: str, key: str, value: object) -> None:
    loaded = load_text(line, partial=True, statuses=False)
    found = value_of(loaded.config, key)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ("learning_rate: fast", "learning_rate", "expected a number above 0, got the text 'fast'"),
        ("learning_rate: 0", "learning_rate", "expected a number above 0, got the number 0"),
        ("learning_rate: .inf", "learning_rate", "expected a number above 0, got the number inf"),
        ("learning_rate: true", "learning_rate", "expected a number above 0, got true"),
        ("micro_batch_size: -1", "micro_batch_size", "expected a whole number of at least 1, got the number -1"),
        ("micro_batch_size: 1.5", "micro_batch_size", "expected a whole number of at least 1, got the number 1.5"),
        ("micro_batch_size: yes", "micro_batch_size", "expected a whole number of at least 1, got true"),
        ("bf16: maybe", "bf16", "expected true, false, auto or full, got the text 'maybe'"),
        ("sample_packing: 2", "sample_packing", "expected true or false, got the number 2"),
        ("base_model: [a]", "base_model", "expected text, got a list"),
        ("base_model: false", "base_model", "expected text, got false"),
        ("warmup_ratio: 3", "warmup_ratio", "expected a number of at least 0 and at most 1, got the number 3"),
        ("save_steps: 0", "save_steps", "expected a whole number of at least 1 or a number above 0 and below 1"),
        ("lora_target_modules: [q_proj, [v]]", "lora_target_modules[1]", "expected text, got a list"),
        ("datasets: data.jsonl", "datasets", "expected a list of mappings, got the text 'data.jsonl'"),
        ("datasets: []", "datasets", "is an empty list"),
        ("datasets: [data.jsonl]", "datasets[0]", "expected a mapping, got the text 'data.jsonl'"),
        ("datasets: [{path: [x]}]", "datasets[0].path", "expected text, got a list"),
        ("datasets: [{path: x, type: {format: [1]}}]", "datasets[0].type.format", "expected text, got a list"),
        ("datasets: [{path: x, train_on_eos: some}]", "datasets[0].train_on_eos", "expected all, turn, last or none"),
        ("special_tokens: {pad_token: [x]}", "special_tokens.pad_token", "expected text, got a list"),
        ("special_tokens: x", "special_tokens", "expected a mapping, got the text 'x'"),
        ("launch: {nodes: 0}", "launch.nodes", "expected a whole number of at least 1, got the number 0"),
        (
            "launch: {recovery: {max_restarts: x}}",
            "launch.recovery.max_restarts",
            "expected a whole number of at least 0",
        ),
        ("launch: here", "launch", "expected a mapping, got the text 'here'"),
        ("launch: {env: {A: [1]}}", "launch.env.A", "expected text, got a list"),
    ],
)
def test_values_that_do_not_fit(line: str, key: str, message: str) -> None:
    (problem,) = errors_of(line)
    assert problem.key == key
    assert problem.message.startswith(message)
    assert problem.line == 1


def test_every_wrong_value_is_named_in_one_go() -> None:
    text = "learning_rate: x\nmicro_batch_size: 0\nbf16: 7\ndatasets:\n  - path: [a]\n    split: [b]\nlora_r: 1.5\n"
    found = {problem.key: problem.line for problem in errors_of(text)}
    assert found == {
        "learning_rate": 1,
        "micro_batch_size": 2,
        "bf16": 3,
        "datasets[0].path": 5,
        "datasets[0].split": 6,
        "lora_r": 7,
    }


def test_hints_for_frequent_mistakes() -> None:
    assert errors_of("warmup_steps: 0.1")[0].hint == "a share of the steps goes into warmup_ratio: 0.1"
    assert "special_tokens" in str(errors_of("tokens: {pad_token: x}")[0].hint)
    assert "empty" in str(errors_of("hub_model_id: false")[0].hint)


def test_config_is_frozen() -> None:
    config = load("learning_rate: 1e-4").config
    with pytest.raises(Exception, match="frozen"):
        config.training.learning_rate = 1.0  # type: ignore[misc]


def test_launch_values_keep_their_text() -> None:
    launch = load("launch:\n  env: {PORT: 8080, FLAG: 'true', VERSION: 1.10}\n  secrets: [HF_TOKEN]\n").config.launch
    assert launch.env == {"PORT": "8080", "FLAG": "true", "VERSION": "1.10"}
    assert launch.secrets == ("HF_TOKEN",)
