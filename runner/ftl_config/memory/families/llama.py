"""Llama and the many that are built like it: attention and a gated MLP, with or without experts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ftl_config.memory.weights import Architecture, Kind, LayerShape, Weight, ends, linear, norm


@dataclass(frozen=True)
class Style:
    """How a family differs from Llama. Defaults are those of transformers' classes."""

    tied: bool = False
    head_dim: int | None = None
    qkv_bias: bool = False
    o_bias: bool = False
    norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm")
    norm: Literal["rms", "gemma", "layer"] = "rms"
    norm_bias: bool = False
    qk_norm: Literal["head", "whole"] | None = None
    fused: bool = False
    """Query, key and value in one matrix, gate and up in another."""
    fused_mlp: bool = False
    gated: bool = True
    mlp_names: tuple[str, str] = ("up_proj", "down_proj")
    mlp_bias: bool = False
    activation_kept: int = 3
    separate_output: bool = False
    """What o_proj reads is a tensor of its own."""


_TWO_NORMS = ("input_layernorm", "post_attention_layernorm")
_GEMMA_NORMS = (*_TWO_NORMS, "pre_feedforward_layernorm", "post_feedforward_layernorm")

STYLES: dict[str, Style] = {
    "llama": Style(),
    "mistral": Style(),
    "granite": Style(),
    "smollm3": Style(tied=True),
    "qwen2": Style(qkv_bias=True),
    "qwen3": Style(head_dim=128, qk_norm="head"),
    "gemma": Style(tied=True, head_dim=256, norm="gemma"),
    "gemma2": Style(tied=True, head_dim=256, norm="gemma", norms=_GEMMA_NORMS),
    "gemma3_text": Style(tied=True, head_dim=256, norm="gemma", norms=_GEMMA_NORMS, qk_norm="head"),
    "gemma3": Style(tied=True, head_dim=256, norm="gemma", norms=_GEMMA_NORMS, qk_norm="head"),
    "phi3": Style(fused=True, fused_mlp=True),
    "glm4": Style(
        head_dim=128,
        qkv_bias=True,
        fused_mlp=True,
        norms=(*_TWO_NORMS, "post_self_attn_layernorm", "post_mlp_layernorm"),
    ),
    "olmo2": Style(norms=("post_attention_layernorm", "post_feedforward_layernorm"), qk_norm="whole"),
    "cohere": Style(tied=True, norms=("input_layernorm",), norm="layer"),
    "stablelm": Style(norm="layer", norm_bias=True),
    "starcoder2": Style(
        tied=True,
        qkv_bias=True,
        o_bias=True,
        norm="layer",
        norm_bias=True,
        gated=False,
        mlp_names=("c_fc", "c_proj"),
        mlp_bias=True,
        activation_kept=1,
    ),
    "mixtral": Style(),
    "qwen2_moe": Style(qkv_bias=True),
    "qwen3_moe": Style(qk_norm="head"),
}

WINDOWED = ("mistral", "mixtral", "gemma2", "gemma3_text", "gemma3", "qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "phi3")


def llama_like(config: Mapping[str, Any], style: Style) -> Architecture:
    """Any of ``STYLES``."""
    hidden, layers = config["hidden_size"], tuple(range(config["num_hidden_layers"]))
    heads = config["num_attention_heads"]
    head_dim = config.get("head_dim") or style.head_dim or hidden // heads
    query, key = heads * head_dim, (config.get("num_key_value_heads") or heads) * head_dim
    tied = config.get("tie_word_embeddings", style.tied)
    weights = ends("model.embed_tokens", "lm_head", config["vocab_size"], hidden, tied=tied)
    weights += _attention(config, style, layers, query, key, head_dim)
    for name in style.norms:
        weights += norm(f"model.layers.{{}}.{name}", hidden, layers, bias=style.norm_bias)
    weights += norm("model.norm", hidden, bias=style.norm_bias)
    plain, expert_layers = _split(config, layers)
    shapes = []
    for numbers, mlp in ((plain, _mlp), (expert_layers, _experts)):
        if numbers:
            more, inner, extra = mlp(config, style, numbers)
            weights += more
            shape = LayerShape(
                numbers,
                hidden,
                norms=len(style.norms),
                norm=style.norm,
                normed_heads=style.qk_norm is not None,
                query=query,
                key=key,
                heads=heads,
                window=_window(config),
                inner=inner,
                inner_kept=style.activation_kept,
                extra=extra + (query if style.separate_output else 0),
            )
            shapes.append(shape)
    return Architecture(config["model_type"], hidden, config["vocab_size"], tied, tuple(weights), tuple(shapes))


def _window(config: Mapping[str, Any]) -> int | None:
    if config["model_type"] not in WINDOWED or config.get("use_sliding_window") is False:
        return None
    return config.get("sliding_window")


def _attention(
    config: Mapping[str, Any], style: Style, layers: tuple[int, ...], query: int, key: int, head_dim: int
) -> list[Weight]:
    prefix, hidden = "model.layers.{}.self_attn", config["hidden_size"]
    given = config.get("attention_bias", config.get("use_bias", config.get("use_qkv_bias")))
    bias = style.qkv_bias if given is None else bool(given)
    # attention_bias is Llama's key for all four; the others that have it use it for query, key and value.
    o_bias = bool(given) if config["model_type"] in ("llama", "qwen3", "granite", "smollm3", "starcoder2") else False
    o_bias = style.o_bias if given is None else o_bias
    if style.fused:
        weights = linear(f"{prefix}.qkv_proj", query + 2 * key, hidden, layers, group="attention", bias=bias)
    else:
        weights = linear(f"{prefix}.q_proj", query, hidden, layers, group="attention", bias=bias)
        weights += linear(f"{prefix}.k_proj", key, hidden, layers, group="attention", bias=bias)
        weights += linear(f"{prefix}.v_proj", key, hidden, layers, group="attention", bias=bias)
    weights += linear(f"{prefix}.o_proj", hidden, query, layers, group="attention_output", bias=o_bias)
    if style.qk_norm:
        widths = (head_dim, head_dim) if style.qk_norm == "head" else (query, key)
        weights += norm(f"{prefix}.q_norm", widths[0], layers) + norm(f"{prefix}.k_norm", widths[1], layers)
    return weights


def _split(config: Mapping[str, Any], layers: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Layers with one MLP, and layers with experts."""
    if not _num_experts(config):
        return layers, ()
    step, dense = config.get("decoder_sparse_step") or 1, config.get("mlp_only_layers") or ()
    experts = tuple(n for n in layers if n not in dense and (n + 1) % step == 0)
    return tuple(n for n in layers if n not in experts), experts


def _num_experts(config: Mapping[str, Any]) -> int:
    return int(config.get("num_local_experts") or config.get("num_experts") or 0)


def _mlp(config: Mapping[str, Any], style: Style, layers: tuple[int, ...]) -> tuple[list[Weight], int, float]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    bias = bool(config.get("mlp_bias", config.get("use_bias", style.mlp_bias)))
    return _dense(style, "model.layers.{}.mlp", hidden, inner, layers, bias), inner, 0.0


def _dense(style: Style, prefix: str, hidden: int, inner: int, layers: tuple[int, ...], bias: bool) -> list[Weight]:
    up, down = style.mlp_names
    if style.fused_mlp:
        weights = linear(f"{prefix}.gate_up_proj", 2 * inner, hidden, layers, group=f"{prefix}.in")
    else:
        gates = ("gate_proj", up) if style.gated else (up,)
        weights = []
        for name in gates:
            weights += linear(f"{prefix}.{name}", inner, hidden, layers, group=f"{prefix}.in", bias=bias)
    return weights + linear(f"{prefix}.{down}", hidden, inner, layers, group=f"{prefix}.out", bias=bias)


def _experts(config: Mapping[str, Any], style: Style, layers: tuple[int, ...]) -> tuple[list[Weight], int, float]:
    """Router and experts, with the shared expert of Qwen2-MoE. A token keeps its input and output for each expert."""
    hidden, number, chosen = config["hidden_size"], _num_experts(config), config.get("num_experts_per_tok") or 2
    inner = config.get("moe_intermediate_size") or config["intermediate_size"]
    prefix = "model.layers.{}.mlp"
    weights = [
        Weight(f"{prefix}.gate.weight", (number, hidden), Kind.OTHER, layers),
        Weight(f"{prefix}.experts.gate_up_proj", (number, 2 * inner, hidden), Kind.EXPERTS, layers),
        Weight(f"{prefix}.experts.down_proj", (number, hidden, inner), Kind.EXPERTS, layers),
    ]
    width = chosen * inner
    shared = config.get("shared_expert_intermediate_size")
    if shared:
        weights += _dense(style, f"{prefix}.shared_expert", hidden, shared, layers, bias=False)
        weights += linear(f"{prefix}.shared_expert_gate", 1, hidden, layers, group=f"{prefix}.shared_expert.in")
        width += shared
    return weights, width, chosen * (2 * hidden + inner) + (hidden if shared else 0)
