"""Models whose layers are not all attention: LFM2's convolutions, Jamba's state spaces, RWKV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ftl_config.memory.weights import Architecture, Kind, LayerShape, Weight, ends, linear, norm

_CONVOLUTION_KEPT = 5
"""Hidden-wide tensors of an LFM2 convolution: its three inputs, a product, the convolution's result."""
_SCAN_KEPT = 3.5
"""State-wide tensors of Jamba's scan written out in PyTorch."""
_RWKV_KEPT = 14
"""Hidden-wide tensors of an RWKV block: shifted and mixed inputs, gates, the recurrence's result."""


def lfm2(config: Mapping[str, Any]) -> Architecture:
    """LFM2, with or without experts."""
    hidden, layers = config["hidden_size"], tuple(range(config["num_hidden_layers"]))
    attention = _attention_layers(config, layers)
    dense = layers
    experts: tuple[int, ...] = ()
    if config["model_type"] == "lfm2_moe":
        number = config.get("num_dense_layers", 2)
        dense, experts = layers[:number], layers[number:]
    tied = config.get("tie_embedding", config.get("tie_word_embeddings", True))
    weights = ends("model.embed_tokens", "lm_head", config["vocab_size"], hidden, tied=tied)
    weights += norm("model.embedding_norm", hidden)
    for name in ("operator_norm", "ffn_norm"):
        weights += norm(f"model.layers.{{}}.{name}", hidden, layers)
    weights += _convolution(config, tuple(n for n in layers if n not in attention))
    weights += _lfm2_attention(config, attention)
    inner = _lfm2_inner(config)
    weights += _three("model.layers.{}.feed_forward", ("w1", "w3", "w2"), hidden, inner, dense)
    if experts:
        weights += _expert_weights("model.layers.{}.feed_forward", "gate", config, experts)
    shapes = _lfm2_shapes(config, layers, attention, frozenset(experts), inner)
    return Architecture(config["model_type"], hidden, config["vocab_size"], tied, tuple(weights), shapes)


def jamba(config: Mapping[str, Any]) -> Architecture:
    """Jamba: state spaces, attention now and then, experts in every other layer."""
    hidden, layers = config["hidden_size"], tuple(range(config["num_hidden_layers"]))
    attention = _periodic(layers, config.get("attn_layer_period", 8), config.get("attn_layer_offset", 4))
    experts = _periodic(layers, config.get("expert_layer_period", 2), config.get("expert_layer_offset", 1))
    experts = experts if config.get("num_experts", 16) > 1 else ()
    mamba = tuple(n for n in layers if n not in attention)
    dense = tuple(n for n in layers if n not in experts)
    tied = config.get("tie_word_embeddings", False)
    weights = ends("model.embed_tokens", "lm_head", config["vocab_size"], hidden, tied=tied)
    weights += norm("model.final_layernorm", hidden)
    for name in ("input_layernorm", "pre_ff_layernorm"):
        weights += norm(f"model.layers.{{}}.{name}", hidden, layers)
    heads = config["num_attention_heads"]
    key = (config.get("num_key_value_heads") or heads) * (hidden // heads)
    for name, width in (("q_proj", hidden), ("k_proj", key), ("v_proj", key)):
        weights += linear(f"model.layers.{{}}.self_attn.{name}", width, hidden, attention, group="attention")
    weights += linear("model.layers.{}.self_attn.o_proj", hidden, hidden, attention, group="attention_output")
    weights += _mamba(config, mamba)
    names = ("gate_proj", "up_proj", "down_proj")
    weights += _three("model.layers.{}.feed_forward", names, hidden, config["intermediate_size"], dense)
    if experts:
        weights += _expert_weights("model.layers.{}.feed_forward", "router", config, experts)
    shapes = _jamba_shapes(config, layers, frozenset(attention), frozenset(experts), key)
    notes = ("Jamba's scan as PyTorch code: with mamba-ssm's kernels activations take less",)
    return Architecture(config["model_type"], hidden, config["vocab_size"], tied, tuple(weights), shapes, notes)


def rwkv(config: Mapping[str, Any]) -> Architecture:
    """RWKV-4."""
    hidden, layers = config["hidden_size"], tuple(range(config["num_hidden_layers"]))
    inner, wide = config.get("intermediate_size") or 4 * hidden, config.get("attention_hidden_size") or hidden
    tied, prefix = config.get("tie_word_embeddings", False), "rwkv.blocks.{}"
    weights = ends("rwkv.embeddings", "head", config["vocab_size"], hidden, tied=tied)
    weights += norm("rwkv.blocks.0.pre_ln", hidden, bias=True) + norm("rwkv.ln_out", hidden, bias=True)
    for name in ("ln1", "ln2"):
        weights += norm(f"{prefix}.{name}", hidden, layers, bias=True)
    for name in ("time_decay", "time_first"):
        weights.append(Weight(f"{prefix}.attention.{name}", (wide,), Kind.OTHER, layers))
    for part, mixed in (("attention", ("key", "value", "receptance")), ("feed_forward", ("key", "receptance"))):
        for name in mixed:
            weights.append(Weight(f"{prefix}.{part}.time_mix_{name}", (1, 1, hidden), Kind.OTHER, layers))
    for name in ("key", "value", "receptance"):
        weights += linear(f"{prefix}.attention.{name}", wide, hidden, layers)
    weights += linear(f"{prefix}.attention.output", hidden, wide, layers)
    weights += linear(f"{prefix}.feed_forward.key", inner, hidden, layers)
    weights += linear(f"{prefix}.feed_forward.receptance", hidden, hidden, layers)
    weights += linear(f"{prefix}.feed_forward.value", hidden, inner, layers)
    shape = LayerShape(layers, hidden, norm="layer", inner=inner, inner_kept=2, extra=_RWKV_KEPT * hidden)
    notes = ("RWKV's activations are a guess",)
    return Architecture(config["model_type"], hidden, config["vocab_size"], tied, tuple(weights), (shape,), notes)


def _attention_layers(config: Mapping[str, Any], layers: tuple[int, ...]) -> tuple[int, ...]:
    types = config.get("layer_types")
    if types:
        return tuple(n for n in layers if types[n] == "full_attention")
    given = config.get("full_attn_idxs")
    return layers if given is None else tuple(given)


def _periodic(layers: tuple[int, ...], period: int, offset: int) -> tuple[int, ...]:
    return tuple(n for n in layers if n % period == offset)


def _lfm2_inner(config: Mapping[str, Any]) -> int:
    inner = int(config.get("block_ff_dim") or config["intermediate_size"])
    if config["model_type"] == "lfm2_moe" or not config.get("block_auto_adjust_ff_dim", True):
        return inner
    inner = int(2 * inner / 3)
    multiplier = config.get("block_ffn_dim_multiplier", 1.0)
    if multiplier is None:
        return inner
    multiple = config.get("block_multiple_of", 256)
    return int(multiple * math.ceil(int(multiplier * inner) / multiple))


def _convolution(config: Mapping[str, Any], layers: tuple[int, ...]) -> list[Weight]:
    hidden, bias, prefix = config["hidden_size"], config.get("conv_bias", False), "model.layers.{}.conv"
    if not layers:
        return []
    kernel = (hidden, 1, config.get("conv_L_cache", 3))
    weights = [Weight(f"{prefix}.conv.weight", kernel, Kind.OTHER, layers)]
    if bias:
        weights.append(Weight(f"{prefix}.conv.bias", (hidden,), Kind.OTHER, layers))
    weights += linear(f"{prefix}.in_proj", 3 * hidden, hidden, layers, bias=bias)
    return weights + linear(f"{prefix}.out_proj", hidden, hidden, layers, bias=bias)


def _lfm2_attention(config: Mapping[str, Any], layers: tuple[int, ...]) -> list[Weight]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    head_dim, prefix = hidden // heads, "model.layers.{}.self_attn"
    if not layers:
        return []
    key = (config.get("num_key_value_heads") or heads) * head_dim
    weights = []
    for name, width in (("q_proj", hidden), ("k_proj", key), ("v_proj", key)):
        weights += linear(f"{prefix}.{name}", width, hidden, layers, group="attention")
    weights += linear(f"{prefix}.out_proj", hidden, hidden, layers, group="attention_output")
    return weights + norm(f"{prefix}.q_layernorm", head_dim, layers) + norm(f"{prefix}.k_layernorm", head_dim, layers)


def _three(prefix: str, names: tuple[str, str, str], hidden: int, inner: int, layers: tuple[int, ...]) -> list[Weight]:
    """A gated MLP: gate, up, down."""
    if not layers:
        return []
    weights = linear(f"{prefix}.{names[0]}", inner, hidden, layers, group=f"{prefix}.in")
    weights += linear(f"{prefix}.{names[1]}", inner, hidden, layers, group=f"{prefix}.in")
    return weights + linear(f"{prefix}.{names[2]}", hidden, inner, layers, group=f"{prefix}.out")


def _expert_weights(prefix: str, router: str, config: Mapping[str, Any], layers: tuple[int, ...]) -> list[Weight]:
    hidden, number = config["hidden_size"], config.get("num_experts") or config.get("num_local_experts") or 16
    inner = config.get("moe_intermediate_size") or config["intermediate_size"]
    return [
        Weight(f"{prefix}.{router}.weight", (number, hidden), Kind.OTHER, layers),
        Weight(f"{prefix}.experts.gate_up_proj", (number, 2 * inner, hidden), Kind.EXPERTS, layers),
        Weight(f"{prefix}.experts.down_proj", (number, hidden, inner), Kind.EXPERTS, layers),
    ]


def _mamba(config: Mapping[str, Any], layers: tuple[int, ...]) -> list[Weight]:
    hidden, state = config["hidden_size"], config.get("mamba_d_state", 16)
    wide, rank = config.get("mamba_expand", 2) * hidden, _rank(config)
    bias, prefix = config.get("mamba_proj_bias", False), "model.layers.{}.mamba"
    weights = [
        Weight(f"{prefix}.A_log", (wide, state), Kind.OTHER, layers),
        Weight(f"{prefix}.D", (wide,), Kind.OTHER, layers),
        Weight(f"{prefix}.conv1d.weight", (wide, 1, config.get("mamba_d_conv", 4)), Kind.OTHER, layers),
    ]
    if config.get("mamba_conv_bias", True):
        weights.append(Weight(f"{prefix}.conv1d.bias", (wide,), Kind.OTHER, layers))
    weights += linear(f"{prefix}.in_proj", 2 * wide, hidden, layers, bias=bias)
    weights += linear(f"{prefix}.x_proj", rank + 2 * state, wide, layers)
    weights += linear(f"{prefix}.dt_proj", wide, rank, layers, bias=True)
    weights += linear(f"{prefix}.out_proj", hidden, wide, layers, bias=bias)
    for name, width in (("dt_layernorm", rank), ("b_layernorm", state), ("c_layernorm", state)):
        weights += norm(f"{prefix}.{name}", width, layers)
    return weights


def _rank(config: Mapping[str, Any]) -> int:
    rank = config.get("mamba_dt_rank", "auto")
    return math.ceil(config["hidden_size"] / 16) if rank == "auto" else int(rank)


def _experts_kept(config: Mapping[str, Any]) -> tuple[int, float]:
    """Width inside the experts of a token, and what else it keeps for them."""
    chosen = config.get("num_experts_per_tok") or 2
    inner = config.get("moe_intermediate_size") or config["intermediate_size"]
    return chosen * inner, chosen * (2 * config["hidden_size"] + inner)


def _lfm2_shapes(
    config: Mapping[str, Any],
    layers: tuple[int, ...],
    attention: tuple[int, ...],
    experts: frozenset[int],
    inner: int,
) -> tuple[LayerShape, ...]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    key = (config.get("num_key_value_heads") or heads) * (hidden // heads)
    shapes = []
    for has_attention in (True, False):
        for has_experts in (True, False):
            chosen = tuple(n for n in layers if (n in attention) is has_attention and (n in experts) is has_experts)
            if not chosen:
                continue
            width, extra = _experts_kept(config) if has_experts else (inner, 0.0)
            if not has_attention:
                extra += _CONVOLUTION_KEPT * hidden
            there = {"query": hidden, "key": key, "heads": heads, "normed_heads": True} if has_attention else {}
            shapes.append(LayerShape(chosen, hidden, inner=width, extra=extra, **there))  # type: ignore[arg-type]
    return tuple(shapes)


def _jamba_shapes(
    config: Mapping[str, Any],
    layers: tuple[int, ...],
    attention: frozenset[int],
    experts: frozenset[int],
    key: int,
) -> tuple[LayerShape, ...]:
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    wide = config.get("mamba_expand", 2) * hidden
    scanned = _SCAN_KEPT * wide * config.get("mamba_d_state", 16)
    shapes = []
    for has_attention in (True, False):
        for has_experts in (True, False):
            chosen = tuple(n for n in layers if (n in attention) is has_attention and (n in experts) is has_experts)
            if not chosen:
                continue
            width, extra = _experts_kept(config) if has_experts else (inner, 0.0)
            if has_attention:
                heads = config["num_attention_heads"]
                shape = LayerShape(chosen, hidden, query=hidden, key=key, heads=heads, inner=width, extra=extra)
            else:
                shape = LayerShape(chosen, hidden, inner=width, extra=extra + 6 * wide, extra_float32=scanned)
            shapes.append(shape)
    return tuple(shapes)
