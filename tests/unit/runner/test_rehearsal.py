"""A model's config made small, and a training config made short; the models are really built and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ftl_config.canonical import canonical_values
from ftl_config.load import load_text
from ftl_runner.rehearsal.settings import Changes, layers_counted, small_settings
from ftl_runner.rehearsal.shrink import shrink

# fmt: off
ARCHITECTURES = (
    "llama", "mistral", "mixtral", "gpt_neox", "gpt2", "falcon", "gptj", "phi", "phi3", "qwen2",
    "qwen2_moe", "qwen3", "qwen3_moe", "gemma", "gemma2", "gemma3_text", "jamba", "lfm2", "olmo2",
    "granite", "deepseek_v3", "cohere2", "starcoder2", "smollm3", "glm4", "gpt_oss", "llama4_text",
    "qwen3_next", "falcon_h1",
)
# fmt: on
"""Those that transformers can make with its own defaults, most of which are the sizes of a real model of 7 B or so."""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_any_architecture_becomes_small_and_still_computes(name: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    real = AutoConfig.for_model(name)
    small = AutoConfig.for_model(**shrink({**real.to_dict(), "vocab_size": 500}))
    for role in ("pad_token_id", "bos_token_id", "eos_token_id"):
        setattr(small, role, 1)
    model = AutoModelForCausalLM.from_config(small, dtype=torch.float32)
    assert sum(weights.numel() for weights in model.parameters()) < 5e6
    ids = torch.randint(3, 400, (2, 16))
    model(input_ids=ids, labels=ids).loss.backward()


def test_what_code_depends_on_is_kept() -> None:
    real = {
        "model_type": "lfm2",
        "hidden_size": 2048,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "num_hidden_layers": 16,
        "layer_types": ["conv", "conv", "full_attention", *["conv"] * 13],
        "vocab_size": 65536,
        "rope_theta": 1e6,
        "quantization_config": {"bits": 4},
    }
    small = shrink(real)
    assert small["layer_types"] == ["conv", "conv", "full_attention"], "one layer of every kind"
    assert small["num_hidden_layers"] == 3
    assert small["num_attention_heads"] / small["num_key_value_heads"] == 4
    assert (small["vocab_size"], small["rope_theta"]) == (65536, 1e6)
    assert "quantization_config" not in small


def test_parts_of_a_model_are_shrunk_too() -> None:
    inner = {"num_hidden_layers": 40, "hidden_size": 4096, "num_attention_heads": 32}
    small = shrink({"model_type": "x", "text_config": inner, "vision_config": dict(inner)})
    assert small["text_config"]["num_hidden_layers"] == small["vision_config"]["num_hidden_layers"] == 2


def test_layers_that_the_config_counts_on_are_there() -> None:
    assert layers_counted({"unfrozen_parameters": ["model.layers.5.mlp", "^lm_head"]}) == 6
    assert layers_counted({"peft_layers_to_transform": [3, 7]}) == 8
    assert layers_counted({"lora_target_modules": r"model\.layers\.(11|2)\.q_proj"}) == 12
    assert layers_counted({}) == 2


CONFIG = """\
base_model: org/model
datasets: [{path: org/chats, type: chat_template}]
adapter: qlora
load_in_4bit: true
lora_r: 8
lora_target_linear: true
sequence_len: 8192
sample_packing: true
flash_attention: true
bf16: auto
micro_batch_size: 8
gradient_accumulation_steps: 16
num_epochs: 3
learning_rate: 1e-4
optimizer: adamw_bnb_8bit
warmup_ratio: 0.1
saves_per_epoch: 2
val_set_size: 0.05
wandb_project: mine
hub_model_id: me/out
checkpoint: s3://bucket/runs
output_dir: ./out
plugins: [axolotl.integrations.liger.LigerPlugin]
liger_rms_norm: true
deepspeed: zero3.json
launch: {cloud: aws, accelerators: "H100:8", env: {A: b}}
"""


@pytest.fixture
def changes() -> Changes:
    values = canonical_values(load_text(CONFIG, name="config.yml").config)
    return small_settings(values, Path("/r"), steps=3, on_gpus=False)


def test_the_config_is_short_stays_here_and_needs_no_gpu(changes: Changes) -> None:
    expected: dict[str, Any] = {
        "max_steps": 3,
        "save_steps": 2,
        "sequence_len": 1024,
        "excess_length_strategy": "truncate",
        "micro_batch_size": 2,
        "gradient_accumulation_steps": 2,
        "optimizer": "adamw_torch",
        "output_dir": "/r/out",
        "launch": {"env": {"A": "b"}},
    }
    assert expected.items() <= changes.values.items()
    gone = {"num_epochs", "wandb_project", "hub_model_id", "checkpoint", "plugins", "liger_rms_norm", "bf16"}
    assert not gone & set(changes.values)
    assert {"adapter": "qlora", "load_in_4bit": True, "sample_packing": True}.items() <= changes.values.items()
    load_text(yaml.safe_dump(changes.values), name="small.yml")  # it is a config


def test_every_change_that_matters_is_told(changes: Changes) -> None:
    told = {each["key"]: (each["before"], each["after"]) for each in changes.told}
    assert told["sequence_len"] == ("8192", "1024")
    assert told["checkpoint"] == ("s3://bucket/runs", "")
    assert "wandb_project" in told
    assert "output_dir" not in told, "where a rehearsal writes is no news"


def test_with_gpus_here_what_is_for_them_stays() -> None:
    values = canonical_values(load_text(CONFIG, name="config.yml").config)
    kept = small_settings(values, Path("/r"), steps=3, on_gpus=True).values
    assert kept["optimizer"] == "adamw_bnb_8bit"
    assert kept["liger_rms_norm"] is True
