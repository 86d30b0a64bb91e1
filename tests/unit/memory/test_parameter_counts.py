"""Parameters counted from config.json are those that transformers makes, by name and shape."""

from __future__ import annotations

from typing import Any

import pytest

from ftl_config.memory.architecture import FAMILIES, read_architecture
from ftl_config.memory.weights import Kind
from tests.unit.memory.shapes import LLAMA_3_8B

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 80,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in FAMILIES if name not in ("gemma3", "falcon", "jamba")},
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama tied": ("llama", {"tie_word_embeddings": True}),
    "llama wide heads": ("llama", {"head_dim": 16}),
    "qwen2 tied": ("qwen2", {"tie_word_embeddings": True}),
    "qwen2_moe": ("qwen2_moe", {**EXPERTS, "shared_expert_intermediate_size": 40, "decoder_sparse_step": 2}),
    "qwen3_moe": ("qwen3_moe", {**EXPERTS, "mlp_only_layers": [1]}),
    "gemma3_text": ("gemma3_text", {"head_dim": 16}),
    "falcon 7b": ("falcon", {}),
    "falcon new": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon rw": ("falcon", {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True}),
    "lfm2": ("lfm2", {"layer_types": ["conv", "full_attention", "conv", "conv"]}),
    "lfm2 as given": ("lfm2", {"full_attn_idxs": [1, 3], "block_auto_adjust_ff_dim": False}),
    "lfm2_moe": ("lfm2_moe", {"layer_types": ["conv", "full_attention"] * 2, "num_dense_layers": 1, **EXPERTS}),
    "jamba": ("jamba", {"attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 6, "use_mamba_kernels": False}),
    "starcoder2": ("starcoder2", {}),
    "gpt2 untied": ("gpt2", {"tie_word_embeddings": False}),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_are_those_of_transformers(case: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, settings = CASES[case]
    config = AutoConfig.for_model(kind, **{**SIZES, **settings})
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    there = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    architecture = read_architecture({**config.to_dict(), "model_type": kind})
    counted = {name: weight.shape for weight in architecture.weights for name in weight.names()}
    if kind == "gpt2":  # Conv1D stores its matrix the other way round
        counted = {name: tuple(sorted(shape)) for name, shape in counted.items()}
        there = {name: tuple(sorted(shape)) for name, shape in there.items()}
    assert counted == there
    assert architecture.num_parameters == model.num_parameters()
    assert sorted(n for shape in architecture.shapes for n in shape.layers) == list(range(architecture.num_layers))


def test_settings_that_transformers_leaves_out_have_their_defaults() -> None:
    """A config.json from a hub holds less than ``to_dict``: what is missing is the class's default."""
    from transformers import AutoConfig

    for kind in ("llama", "gemma", "gemma2", "qwen3", "gpt2", "gpt_neox", "phi", "mistral", "falcon"):
        config = AutoConfig.for_model(kind, **SIZES)
        full = read_architecture(config.to_dict())
        left_out = {"tie_word_embeddings", "head_dim", "attention_bias", "mlp_bias", "sliding_window"}
        small = {name: value for name, value in config.to_dict().items() if name not in left_out}
        if kind == "qwen3":
            small["head_dim"] = config.head_dim
        assert read_architecture(small).num_parameters == full.num_parameters, kind


def test_known_models() -> None:
    """Published sizes, from published config.json files."""
    assert read_architecture(LLAMA_3_8B).num_parameters == 8_030_261_248
    mixtral = {**LLAMA_3_8B, "model_type": "mixtral", "vocab_size": 32000, "num_local_experts": 8}
    assert read_architecture(mixtral).num_parameters == 46_702_792_704


def test_an_unknown_type_is_read_as_a_llama_and_says_so() -> None:
    config = {**SIZES, "model_type": "newcomer"}
    architecture = read_architecture(config)
    assert architecture.num_parameters == read_architecture({**SIZES, "model_type": "llama"}).num_parameters
    assert "newcomer" in architecture.notes[0]
    assert {weight.kind for weight in architecture.weights} >= {Kind.LINEAR, Kind.HEAD, Kind.EMBEDDING}
