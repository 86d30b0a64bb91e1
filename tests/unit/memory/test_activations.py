"""Activations by formula are the tensors that autograd keeps in transformers' models."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ftl_config.load import load_text
from ftl_config.memory.activations import Setting, end_bytes, layer_bytes, training_batch
from ftl_config.memory.architecture import read_architecture
from ftl_config.memory.devices import cpu_device
from ftl_config.memory.number_formats import number_format
from ftl_config.memory.trained import hold
from tests.unit.memory.test_parameter_counts import SIZES

ROWS, LENGTH = 2, 128
LARGER = {**SIZES, "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 3, "max_position_embeddings": 256}
BASE = """
base_model: org/model
datasets: [{path: rows.jsonl, type: alpaca}]
learning_rate: 1e-4
micro_batch_size: 2
sequence_len: 128
"""
LORA = "adapter: lora\nlora_r: 4\nlora_target_linear: true\n"


def kept_by_autograd(kind: str, settings: dict[str, Any], config_text: str, *, packed: bool) -> int:
    """Bytes of what the body of a model saves for its backward pass, each storage once, weights left out."""
    from transformers import AutoConfig, AutoModelForCausalLM

    keys = load_text(BASE + config_text).config
    low = bool(keys.precision.bf16 is True)
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**LARGER, **settings})
    model: Any = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16 if low else torch.float32)
    if keys.adapter.adapter:
        from ftl_runner.models.adapter import add_adapter

        model = add_adapter(model, keys)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in weights:
            kept.setdefault(place, tensor)
        return tensor

    ids = torch.randint(3, LARGER["vocab_size"], (ROWS, LENGTH))
    given: dict[str, Any] = {"attention_mask": torch.ones_like(ids)}
    if packed:
        given = {"position_ids": torch.arange(LENGTH // 2).repeat(ROWS, 2)}
    model.train()
    body = model.get_base_model().model if keys.adapter.adapter else model.model
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with hooks, torch.autocast("cpu", torch.bfloat16, enabled=low):
        body(input_ids=ids, use_cache=False, **given)
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


def by_formula(kind: str, settings: dict[str, Any], config_text: str, *, packed: bool) -> float:
    from transformers import AutoConfig

    config = load_text(BASE + config_text).config
    described = AutoConfig.for_model(kind, **{**LARGER, **settings}).to_dict()
    architecture, device = read_architecture(described), cpu_device(2**40)
    numbers = number_format(config, device)
    batch = training_batch(config)
    if not packed:  # the batch below has no padding
        batch = type(batch)(batch.rows, batch.length, mask=False)
    holding = hold(architecture, config, numbers)
    setting = Setting(architecture, config, numbers, device, holding, batch)
    layers = sum(len(shape.layers) * layer_bytes(setting, shape) for shape in architecture.shapes)
    return layers + end_bytes(setting)


KINDS: dict[str, dict[str, Any]] = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16},
}


@pytest.mark.parametrize("keys", ["", "bf16: true\n", LORA, LORA + "bf16: true\n", LORA + "lora_dropout: 0.1\n"])
@pytest.mark.parametrize("kind", KINDS)
def test_unpacked(kind: str, keys: str) -> None:
    measured = kept_by_autograd(kind, KINDS[kind], keys, packed=False)
    assert by_formula(kind, KINDS[kind], keys, packed=False) == pytest.approx(measured, rel=0.06)


@pytest.mark.parametrize("keys", ["", LORA + "bf16: true\n", "attn_implementation: eager\n"])
def test_packed(keys: str) -> None:
    settings = {"attn_implementation": "eager"} if "eager" in keys else {}
    keys += "sample_packing: true\npad_to_sequence_len: true\n"
    measured = kept_by_autograd("llama", settings, keys, packed=True)
    assert by_formula("llama", {}, keys, packed=True) == pytest.approx(measured, rel=0.06)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("phi", {}),
        ("gpt_neox", {}),
        ("mixtral", {"num_local_experts": 2}),
        ("qwen3_moe", {"num_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "head_dim": 16}),
        ("lfm2", {"layer_types": ["conv", "full_attention", "conv"]}),
        ("gemma3_text", {"head_dim": 16, "sliding_window": 256}),
        ("phi3", {}),
    ],
)
def test_other_families_are_near(kind: str, settings: dict[str, Any]) -> None:
    measured = kept_by_autograd(kind, settings, "", packed=False) if kind != "gpt_neox" else _neox()
    assert by_formula(kind, settings, "", packed=False) == pytest.approx(measured, rel=0.15)


def _neox() -> int:
    from transformers import AutoModelForCausalLM, GPTNeoXForCausalLM

    GPTNeoXForCausalLM.model = property(lambda self: self.gpt_neox)  # type: ignore[attr-defined]
    assert AutoModelForCausalLM is not None
    try:
        return kept_by_autograd("gpt_neox", {}, "", packed=False)
    finally:
        del GPTNeoXForCausalLM.model  # type: ignore[attr-defined]
