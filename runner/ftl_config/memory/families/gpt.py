"""GPT-2 and its relatives: LayerNorm and an MLP without a gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftl_config.memory.weights import Architecture, Kind, LayerShape, Weight, ends, linear, norm

_NEW_GELU = 4
"""Tensors that GPT-2's GELU, written out in PyTorch, keeps."""


def _kept(activation: str) -> int:
    return _NEW_GELU if activation in ("gelu_new", "gelu_fast", "gelu_pytorch_tanh_python") else 1


def gpt2(config: Mapping[str, Any]) -> Architecture:
    """GPT-2; its attention drops out, so that probabilities are kept on a CPU."""
    hidden, layers = config["n_embd"], tuple(range(config["n_layer"]))
    inner, tied = config.get("n_inner") or 4 * hidden, config.get("tie_word_embeddings", True)
    prefix = "transformer.h.{}"
    weights = ends("transformer.wte", "lm_head", config["vocab_size"], hidden, tied=tied)
    weights.append(Weight("transformer.wpe.weight", (config["n_positions"], hidden), Kind.OTHER))
    weights += linear(f"{prefix}.attn.c_attn", 3 * hidden, hidden, layers, group="attention", bias=True)
    weights += linear(f"{prefix}.attn.c_proj", hidden, hidden, layers, group="attention_output", bias=True)
    weights += linear(f"{prefix}.mlp.c_fc", inner, hidden, layers, group="mlp", bias=True)
    weights += linear(f"{prefix}.mlp.c_proj", hidden, inner, layers, group="mlp_output", bias=True)
    for name in ("ln_1", "ln_2"):
        weights += norm(f"{prefix}.{name}", hidden, layers, bias=True)
    weights += norm("transformer.ln_f", hidden, bias=True)
    kept = _kept(config.get("activation_function", "gelu_new"))
    shape = _shape(layers, hidden, config["n_head"], inner, kept, extra=4 * hidden)
    return _made(config, hidden, tied, weights, shape)


def gptj(config: Mapping[str, Any]) -> Architecture:
    """GPT-J: one norm for attention and MLP, a bias on the head."""
    hidden, layers = config["n_embd"], tuple(range(config["n_layer"]))
    inner, tied = config.get("n_inner") or 4 * hidden, config.get("tie_word_embeddings", False)
    prefix = "transformer.h.{}"
    weights = ends("transformer.wte", "lm_head", config["vocab_size"], hidden, tied=tied, bias=True)
    for name in ("k_proj", "v_proj", "q_proj"):
        weights += linear(f"{prefix}.attn.{name}", hidden, hidden, layers, group="attention")
    weights += linear(f"{prefix}.attn.out_proj", hidden, hidden, layers, group="attention_output")
    weights += linear(f"{prefix}.mlp.fc_in", inner, hidden, layers, group="attention", bias=True)
    weights += linear(f"{prefix}.mlp.fc_out", hidden, inner, layers, group="mlp_output", bias=True)
    weights += norm(f"{prefix}.ln_1", hidden, layers, bias=True) + norm("transformer.ln_f", hidden, bias=True)
    kept = _kept(config.get("activation_function", "gelu_new"))
    shape = _shape(layers, hidden, config["n_head"], inner, kept, norms=1, extra=hidden)
    return _made(config, hidden, tied, weights, shape)


def gpt_neox(config: Mapping[str, Any]) -> Architecture:
    """GPT-NeoX and Pythia."""
    hidden, layers = config["hidden_size"], tuple(range(config["num_hidden_layers"]))
    inner, tied = config["intermediate_size"], config.get("tie_word_embeddings", False)
    prefix, bias = "gpt_neox.layers.{}", config.get("attention_bias", True)
    weights = ends("gpt_neox.embed_in", "lm_head", config["vocab_size"], hidden, tied=tied)
    weights += linear(f"{prefix}.attention.query_key_value", 3 * hidden, hidden, layers, group="attention", bias=bias)
    weights += linear(f"{prefix}.attention.dense", hidden, hidden, layers, group="attention_output", bias=bias)
    weights += linear(f"{prefix}.mlp.dense_h_to_4h", inner, hidden, layers, group="mlp", bias=True)
    weights += linear(f"{prefix}.mlp.dense_4h_to_h", hidden, inner, layers, group="mlp_output", bias=True)
    for name in ("input_layernorm", "post_attention_layernorm"):
        weights += norm(f"{prefix}.{name}", hidden, layers, bias=True)
    weights += norm("gpt_neox.final_layer_norm", hidden, bias=True)
    # The value is a part of the fused projection's output, which is kept whole.
    extra = (2 if not config.get("use_parallel_residual", True) else 1) * hidden + 2 * hidden
    shape = _shape(layers, hidden, config["num_attention_heads"], inner, 1, norms=1, extra=extra - hidden)
    return _made(config, hidden, tied, weights, shape)


def falcon(config: Mapping[str, Any]) -> Architecture:
    """Falcon: one key for all heads (7B), or some (the new decoder: 40B, 180B)."""
    hidden, layers = config["hidden_size"], tuple(range(config.get("num_hidden_layers") or config["n_layer"]))
    heads = config.get("num_attention_heads") or config["n_head"]
    new, multi_query = config.get("new_decoder_architecture", False), config.get("multi_query", True)
    keys = (config.get("num_kv_heads") or heads) if new or not multi_query else 1
    keys = keys if new else (1 if multi_query else heads)
    inner, bias = config.get("ffn_hidden_size") or 4 * hidden, config.get("bias", False)
    tied = config.get("tie_word_embeddings", True)
    prefix, head_dim = "transformer.h.{}", hidden // heads
    weights = ends("transformer.word_embeddings", "lm_head", config["vocab_size"], hidden, tied=tied)
    width = hidden + 2 * keys * head_dim
    weights += linear(f"{prefix}.self_attention.query_key_value", width, hidden, layers, group="attention", bias=bias)
    weights += linear(f"{prefix}.self_attention.dense", hidden, hidden, layers, group="attention_output", bias=bias)
    parallel = config.get("parallel_attn", True)
    group = "attention" if parallel and not new else "mlp"
    weights += linear(f"{prefix}.mlp.dense_h_to_4h", inner, hidden, layers, group=group, bias=bias)
    weights += linear(f"{prefix}.mlp.dense_4h_to_h", hidden, inner, layers, group="mlp_output", bias=bias)
    names: tuple[str, ...]
    names = ("ln_attn", "ln_mlp") if new and (config.get("num_ln_in_parallel_attn") or 2) == 2 else ("input_layernorm",)
    names += () if new or parallel else ("post_attention_layernorm",)
    for name in names:
        weights += norm(f"{prefix}.{name}", hidden, layers, bias=True)
    weights += norm("transformer.ln_f", hidden, bias=True)
    shape = _shape(layers, hidden, heads, inner, 1, norms=len(names), key=hidden, extra=hidden)
    return _made(config, hidden, tied, weights, shape)


def mpt(config: Mapping[str, Any]) -> Architecture:
    """MPT: no biases; its attention is written out, so that probabilities are kept."""
    hidden, layers = config["d_model"], tuple(range(config["n_layers"]))
    inner, tied = config.get("expansion_ratio", 4) * hidden, config.get("tie_word_embeddings", True)
    prefix = "transformer.blocks.{}"
    weights = ends("transformer.wte", "lm_head", config["vocab_size"], hidden, tied=tied)
    weights += linear(f"{prefix}.attn.Wqkv", 3 * hidden, hidden, layers, group="attention")
    weights += linear(f"{prefix}.attn.out_proj", hidden, hidden, layers, group="attention_output")
    weights += linear(f"{prefix}.ffn.up_proj", inner, hidden, layers, group="mlp")
    weights += linear(f"{prefix}.ffn.down_proj", hidden, inner, layers, group="mlp_output")
    for name in ("norm_1", "norm_2"):
        weights += norm(f"{prefix}.{name}", hidden, layers)
    weights += norm("transformer.norm_f", hidden)
    shape = _shape(layers, hidden, config["n_heads"], inner, 1, extra=hidden)
    return _made(config, hidden, tied, weights, shape, ("attention is written out: its probabilities are kept",))


def phi(config: Mapping[str, Any]) -> Architecture:
    """Phi-1 and Phi-2: one norm for attention and MLP, biases everywhere."""
    hidden, layers = config["hidden_size"], tuple(range(config["num_hidden_layers"]))
    heads, inner = config["num_attention_heads"], config.get("intermediate_size") or 4 * config["hidden_size"]
    key = (config.get("num_key_value_heads") or heads) * (hidden // heads)
    tied = config.get("tie_word_embeddings", False)
    prefix = "model.layers.{}"
    weights = ends("model.embed_tokens", "lm_head", config["vocab_size"], hidden, tied=tied, bias=True)
    for name, width in (("q_proj", hidden), ("k_proj", key), ("v_proj", key)):
        weights += linear(f"{prefix}.self_attn.{name}", width, hidden, layers, group="attention", bias=True)
    weights += linear(f"{prefix}.self_attn.dense", hidden, hidden, layers, group="attention_output", bias=True)
    weights += linear(f"{prefix}.mlp.fc1", inner, hidden, layers, group="attention", bias=True)
    weights += linear(f"{prefix}.mlp.fc2", hidden, inner, layers, group="mlp_output", bias=True)
    weights += norm(f"{prefix}.input_layernorm", hidden, layers, bias=True)
    weights += norm("model.final_layernorm", hidden, bias=True)
    kept = _kept(config.get("hidden_act", "gelu_new"))
    shape = _shape(layers, hidden, heads, inner, kept, norms=1, key=key, extra=hidden)
    return _made(config, hidden, tied, weights, shape)


def _shape(
    layers: tuple[int, ...],
    hidden: int,
    heads: int,
    inner: int,
    kept: int,
    *,
    norms: int = 2,
    key: int | None = None,
    extra: float = 0.0,
) -> LayerShape:
    return LayerShape(
        layers,
        hidden,
        norms=norms,
        norm="layer",
        query=hidden,
        key=hidden if key is None else key,
        heads=heads,
        inner=inner,
        inner_kept=kept,
        extra=extra,
    )


def _made(
    config: Mapping[str, Any],
    hidden: int,
    tied: bool,
    weights: list[Weight],
    shape: LayerShape,
    notes: tuple[str, ...] = (),
) -> Architecture:
    return Architecture(config["model_type"], hidden, config["vocab_size"], tied, tuple(weights), (shape,), notes)
