"""A model's config.json made small: the same architecture and vocabulary, few layers, narrow ones, few experts.

Proportions that code depends on are kept: query heads to key heads, the kinds of layers there are, what of a head is
rotated. Keys that are not there are left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

HEAD_DIM = 16
_MAX_HEADS = 4
_MAX_EXPERTS = 4
_MIN_LAYERS = 2

_LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads")
_KEY_HEADS = ("num_key_value_heads", "num_kv_heads")
_HIDDEN = ("hidden_size", "n_embd", "d_model", "embedding_dim", "dim")
_INNER = ("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", "block_ff_dim")
_INNER_EXPERT = ("moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size")
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
_EXPERTS_CHOSEN = ("num_experts_per_tok", "num_selected_experts", "moe_topk")
_RANKS = ("q_lora_rank", "kv_lora_rank", "o_lora_rank")
_HEAD_DIMS = ("head_dim", "v_head_dim", "qk_nope_head_dim", "attention_head_dim", "kv_channels", "global_head_dim")
_STATE = ("mamba_d_state", "state_size", "ssm_state_size", "mamba_dt_rank", "time_step_rank")
_LAYER_NUMBERS = ("full_attn_idxs", "attn_layer_indices", "mlp_only_layers", "no_rope_layers", "full_attention_idxs")
_OF_OTHERS = ("quantization_config", "auto_map", "_name_or_path", "pretraining_tp", "transformers_version")


def shrink(config: Mapping[str, Any], *, min_layers: int = _MIN_LAYERS) -> dict[str, Any]:
    """The small config.

    Args:
        config: of the model, as config.json has it.
        min_layers: at least so many, because something else counts them.
    """
    small = {key: value for key, value in config.items() if key not in _OF_OTHERS}
    for key, value in config.items():
        if key.endswith("_config") and isinstance(value, Mapping) and key in small:
            small[key] = shrink(value, min_layers=min_layers)
    layers = _num_layers(config, min_layers)
    if layers is not None:
        _fewer_layers(small, layers)
    if _first(config, _HEADS) is not None or _first(config, _HIDDEN) is not None:
        _narrower(small)
    return small


def _num_layers(config: Mapping[str, Any], least: int) -> int | None:
    """Enough for one layer of every kind."""
    total = _first(config, _LAYERS)
    if not isinstance(total, int):
        return None
    kinds: list[Any] = config.get("layer_types") or config.get("layers_block_type") or []
    needed = [least, *(kinds.index(kind) + 1 for kind in set(map(str, kinds)) if kind in kinds)]
    periods = [value for key, value in config.items() if key.endswith("layer_period") and isinstance(value, int)]
    periods += [config[key] for key in ("sliding_window_pattern", "full_attention_interval") if config.get(key)]
    dense = config.get("first_k_dense_replace") or config.get("num_dense_layers") or 0
    return int(min(total, max(*needed, *periods, dense + 1)))


def _fewer_layers(small: dict[str, Any], layers: int) -> None:
    before = int(_first(small, _LAYERS) or 0)
    _set(small, _LAYERS, lambda _: layers)
    for key, value in list(small.items()):
        if key in _LAYER_NUMBERS and isinstance(value, Sequence) and len(value) != before:
            small[key] = [number for number in value if number < layers]
        elif isinstance(value, list) and len(value) == before and key != "architectures":
            small[key] = value[:layers]
    _set(small, ("max_window_layers",), lambda value: min(value, layers))
    _set(small, ("num_nextn_predict_layers", "num_kv_shared_layers"), lambda _: 0)


def _narrower(small: dict[str, Any]) -> None:
    heads, key_heads = int(_first(small, _HEADS) or 1), _first(small, _KEY_HEADS)
    hidden_before = int(_first(small, _HIDDEN) or 0)
    inner_before = _first(small, _INNER)
    new_heads = min(heads, _MAX_HEADS)
    hidden = max(new_heads, 2) * HEAD_DIM
    _set(small, _HEADS, lambda _: new_heads)
    if isinstance(key_heads, int) and heads % key_heads == 0:
        _set(small, _KEY_HEADS, lambda _: max(1, new_heads * key_heads // heads))
    _rotated(small, hidden_before // heads if hidden_before else 0)
    _set(small, _HIDDEN, lambda _: hidden)
    ratio = inner_before / hidden_before if isinstance(inner_before, int) and hidden_before else 4
    _set(small, _INNER, lambda _: max(HEAD_DIM, int(hidden * min(ratio, 4)) // HEAD_DIM * HEAD_DIM))
    _set(small, _INNER_EXPERT, lambda _: 2 * HEAD_DIM)
    _set(small, _EXPERTS, lambda count: min(count, _MAX_EXPERTS))
    _set(small, _EXPERTS_CHOSEN, lambda count: min(count, 2))
    _set(small, ("n_group", "topk_group"), lambda _: 1)
    _set(small, _RANKS, lambda _: HEAD_DIM)
    _set(small, _STATE, lambda value: min(value, 8))
    _set(small, ("mamba_n_heads", "mamba_num_heads"), lambda _: new_heads)
    expanded = hidden * int(small.get("mamba_expand") or small.get("expand") or 1)
    _set(small, ("mamba_d_head", "mamba_head_dim"), lambda _: expanded // new_heads)
    if small.get("model_type") == "mamba2":
        small["head_dim"] = expanded // new_heads
    _set(small, ("attention_hidden_size", "lru_width"), lambda _: hidden)
    _set(small, ("mamba_d_ssm",), lambda _: expanded)
    _set(small, ("query_pre_attn_scalar",), lambda _: HEAD_DIM)


def _rotated(small: dict[str, Any], head_dim: int) -> None:
    """Sizes of heads, and of the part of them that positions rotate."""
    head_dim = int(small.get("head_dim") or head_dim or HEAD_DIM)
    _set(small, ("rotary_dim", "qk_rope_head_dim"), lambda value: max(2, min(HEAD_DIM, HEAD_DIM * value // head_dim)))
    if small.get("qk_rope_head_dim") and small.get("qk_head_dim"):
        small.pop("qk_head_dim")  # worked out from its parts
    _set(small, _HEAD_DIMS, lambda _: HEAD_DIM)
    for scaling in (small.get("rope_scaling"), small.get("rope_parameters")):
        if isinstance(scaling, dict) and isinstance(sections := scaling.get("mrope_section"), list):
            scaling["mrope_section"] = _divided(sections, HEAD_DIM // 2)


def _divided(parts: Sequence[int], total: int) -> list[int]:
    """Parts in the same proportion that add up to ``total``."""
    whole = sum(parts) or 1
    new = [part * total // whole for part in parts]
    return [new[0] + total - sum(new), *new[1:]]


def _first(config: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((config[name] for name in names if config.get(name) is not None), None)


def _set(config: dict[str, Any], names: Sequence[str], change: Callable[[Any], Any]) -> None:
    """Change the values that are there; a key without one (None) has the model work it out."""
    for name in names:
        if isinstance(config.get(name), int | float) and not isinstance(config[name], bool):
            config[name] = change(config[name])
