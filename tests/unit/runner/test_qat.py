"""Quantization-aware training: the loss is that of the rounded model, the weights that move are the full ones."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from ftl_config import Config
from ftl_runner.models import fake_quantization
from ftl_runner.models.adapter import add_adapter
from ftl_runner.models.errors import ModelError
from ftl_runner.models.fake_quantization import check_torchao, pretend
from ftl_runner.trainer.arguments import make_arguments, make_schedule
from ftl_runner.trainer.configured import OptimizerFromConfig
from ftl_runner.trainer.qat import PretendQuantized
from tests.unit.runner.snippets import CPU, config_of
from tests.unit.runner.test_adapters_train import TOKENS, configured, load, logits_of, save_random

needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="needs torchao")
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    save_random(LlamaConfig(vocab_size=50, **SIZES, tie_word_embeddings=True), folder)
    return folder


def with_qat(base: Path, folder: Path, qat: str, steps: int = 6) -> Config:
    return configured(base, folder, f"qat: {{{qat}}}", steps)


def train(base: Path, config: Config, from_step: int = 0) -> tuple[Any, list[float]]:
    model = add_adapter(load(base, config), config)
    arguments = make_arguments(config, CPU, make_schedule(config, 64, 1), 1)
    rows = [{"input_ids": TOKENS[0], "labels": TOKENS[0]}] * 64
    trainer = OptimizerFromConfig(config=config, model=model, args=arguments, train_dataset=rows)
    if from_step:
        trainer.add_callback(PretendQuantized(from_step))
    trainer.train()
    trainer.save_model(str(config.checkpointing.output_dir))
    return model, [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def rounding(model: Any) -> float:
    """How far the logits are from those of the same weights unrounded."""
    rounded = logits_of(model)
    pretend(model, on=False)
    plain = logits_of(model)
    pretend(model, on=True)
    return float((rounded - plain).norm() / plain.norm())


TYPES = [
    ("weight_dtype: int4", 0.02, 1.0),
    ("weight_dtype: int8", 1e-4, 0.05),
    ("weight_dtype: int8, group_size: null", 1e-4, 0.05),
    ("weight_dtype: int4, activation_dtype: int8", 0.02, 1.0),
    ("weight_dtype: int4, activation_dtype: int8, group_size: 16, quantize_embedding: true", 0.02, 1.0),
]


@needs_torchao
@pytest.mark.parametrize(("qat", "least", "most"), TYPES)
def test_trains_through_the_rounding(qat: str, least: float, most: float, base: Path, tmp_path: Path) -> None:
    config = with_qat(base, tmp_path, qat)
    model, losses = train(base, config)
    assert losses[-1] < losses[0] - 0.1
    assert least < rounding(model) < most
    # What is saved is a plain model with the full weights, embedding and head still one tensor.
    plain = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert type(plain.model.layers[0].mlp.up_proj) is torch.nn.Linear
    pretend(model, on=False)
    assert torch.equal(logits_of(plain), logits_of(model))
    assert plain.lm_head.weight is plain.model.embed_tokens.weight
    before = AutoModelForCausalLM.from_pretrained(base)
    assert not torch.equal(plain.model.layers[1].mlp.down_proj.weight, before.model.layers[1].mlp.down_proj.weight)


@needs_torchao
def test_first_steps_are_not_rounded(base: Path, tmp_path: Path) -> None:
    _, expected = train(base, configured(base, tmp_path / "plain", "", steps=4))
    _, losses = train(base, with_qat(base, tmp_path / "qat", "weight_dtype: int4", steps=4), from_step=2)
    assert losses[:2] == expected[:2]
    assert losses[2] != expected[2]


@needs_torchao
def test_groups_that_do_not_fit(base: Path, tmp_path: Path) -> None:
    config = with_qat(base, tmp_path, "weight_dtype: int4, group_size: 48")
    with pytest.raises(ModelError, match=r"48 does not divide the 64 columns of model\.layers\.0"):
        add_adapter(load(base, config), config)


def test_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake_quantization.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="qat needs torchao") as caught:
        check_torchao(config_of("qat: {weight_dtype: int4}"))
    assert caught.value.hint == "pip install 'ftl-tune[qat]'"
