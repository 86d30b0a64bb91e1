"""LoftQ: the adapter makes up for what quantization took, and the base that it corrects is the one that is merged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from ftl_config import Config
from ftl_runner.merge import merge_lora
from ftl_runner.models.adapter import add_adapter, load_adapter
from ftl_runner.models.errors import ModelError
from ftl_runner.models.layers import weight_of
from ftl_runner.models.loftq import low_rank
from tests.unit.runner.test_adapters_train import TOKENS, configured, load, logits_of, save_random, train
from tests.unit.runner.test_merge import with_method
from tests.unit.runner.tiny_models import words_tokenizer

SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
START = "peft: {loftq_config: {loftq_bits: %d}}\nlora_rank_pattern: {'.*': 16}\nlora_alpha: 48\n"  # a scale of 3
BASES = {
    "4 bits": ("adapter: qlora\nload_in_4bit: true\n", 4),
    "4 bits, plain": ("adapter: qlora\nload_in_4bit: true\nbnb_4bit_use_double_quant: false\n", 4),
    "8 bits": ("adapter: lora\nload_in_8bit: true\n", 8),
    "in full, 4 bits": ("adapter: lora\n", 4),
    "in full, 8 bits": ("adapter: lora\n", 8),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    save_random(LlamaConfig(vocab_size=50, **SIZES), folder)
    words_tokenizer(50).save_pretrained(folder)
    return folder


def with_start(base: Path, folder: Path, name: str, more: str = "") -> Config:
    lines, bits = BASES[name]
    return configured(base, folder, lines + START % bits + more)


def error_of(model: Any, base: Path) -> float:
    """Distance of the logits from those of the model that was never quantized."""
    return float((logits_of(model) - logits_of(AutoModelForCausalLM.from_pretrained(base))).norm())


def training_logits(model: Any) -> torch.Tensor:
    """In evaluation bitsandbytes multiplies 4-bit weights in bfloat16 on some CPUs."""
    model.train()
    with torch.no_grad():
        return model(TOKENS).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", BASES)
def test_start_is_nearer_than_the_quantized_base(name: str, base: Path, tmp_path: Path) -> None:
    model = add_adapter(load(base, config := with_start(base, tmp_path, name)), config)
    with model.disable_adapter():
        without = error_of(model, base)
    assert without > 0  # the base is really rounded
    assert error_of(model, base) < 0.9 * without
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    whole = AutoModelForCausalLM.from_pretrained(base).model.layers[0].mlp.up_proj.weight
    residual = whole - weight_of(layer)
    best = torch.linalg.svdvals(residual)[16:].norm().item()  # no matrix of rank 16 is nearer (Eckart-Young)
    assert (residual - layer.get_delta_weight("default")).norm().item() == pytest.approx(best, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", BASES)
def test_trained_model_reloads_and_merges(name: str, base: Path, tmp_path: Path) -> None:
    """What inference loads and what merge-lora writes is the model that was trained, whichever way it is merged."""
    config = with_start(base, tmp_path, name)
    model, moved, losses = train(base, config)
    assert losses[-1] < losses[0] - 0.1
    assert all("lora_" in name for name in moved)
    expected = training_logits(model)
    again = load_adapter(load(base, config), config, tmp_path)
    assert (training_logits(again) - expected).abs().max() < 2e-4
    for method in ("memory_efficient", "legacy"):
        merged = merge_lora(with_method(config, method))
        # bitsandbytes multiplies 8-bit weights by activations of 8 bits.
        tolerance = 0.2 if config.adapter.load_in_8bit else 1e-3
        assert (logits_of(AutoModelForCausalLM.from_pretrained(merged)) - expected).abs().max() < tolerance, method


def test_weights_stored_the_other_way_round(tmp_path: Path) -> None:
    """GPT-2's Conv1D holds (in, out); a quantized one (out, in)."""
    torch.manual_seed(0)
    save_random(GPT2Config(vocab_size=50, n_embd=64, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2), tmp_path)
    for name in ("4 bits", "in full, 4 bits"):
        config = with_start(tmp_path, tmp_path / "out", name, "lora_fan_in_fan_out: true\n")
        model = add_adapter(load(tmp_path, config), config)
        with model.disable_adapter():
            without = error_of(model, tmp_path)
        assert 0 < error_of(model, tmp_path) < 0.9 * without


def test_rank_beyond_the_matrix() -> None:
    torch.manual_seed(0)
    matrix = torch.randn(3, 7)
    for each in (matrix, matrix.T):
        a, b = low_rank(each, 16)
        assert torch.allclose(b @ a, each, atol=1e-5)


def test_quantized_base_needs_its_files(base: Path, tmp_path: Path) -> None:
    config = with_start(tmp_path / "elsewhere", tmp_path, "4 bits")
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ModelError, match="not in safetensors files"):
        add_adapter(load(base, config), config)
