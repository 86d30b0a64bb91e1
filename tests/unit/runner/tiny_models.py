"""Random models of two layers, of any architecture, and sequences to pack for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

VOCABULARY = 300
_SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_EXTRA: dict[str, dict[str, Any]] = {
    # Windows shorter than a packed row, and than most sequences.
    "mistral": {"sliding_window": 4},
    "gemma": {"head_dim": 8},
    "gemma2": {"head_dim": 8, "sliding_window": 4},
    "gemma3_text": {
        "head_dim": 8,
        "sliding_window": 4,
        "layer_types": ["sliding_attention", "full_attention"],
    },
    "qwen3": {"head_dim": 8},
    "qwen3_moe": {"head_dim": 8, **_EXPERTS},
    "qwen2_moe": {"shared_expert_intermediate_size": 16, **_EXPERTS},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1, **_EXPERTS},
}


def tiny_config(kind: str, **settings: Any) -> Any:
    """A configuration of that model type, small in every size."""
    from transformers import AutoConfig

    return AutoConfig.for_model(kind, **{**_SIZES, **_EXTRA.get(kind, {}), **settings})


def tiny_causal_model(kind: str, attention: str | None = "sdpa", **settings: Any) -> Any:
    """A model in eval mode; the same weights at every call."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(kind, **settings), attn_implementation=attention)
    model.config.use_cache = False
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".conv." in name:  # of the size that trained weights have: a leak must not hide in small numbers
                parameter.normal_(std=0.5)
    return model.eval()


def sequences() -> list[list[int]]:
    random = np.random.default_rng(3)
    return [random.integers(1, VOCABULARY, size).tolist() for size in (5, 9, 1, 12, 7)]


def packed_rows(rows: Sequence[Sequence[int]], groups: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """Rows as ``prepare`` writes them."""
    packed = []
    for group in groups:
        ids = [token for number in group for token in rows[number]]
        positions = [position for number in group for position in range(len(rows[number]))]
        packed.append({"input_ids": ids, "labels": list(ids), "position_ids": positions})
    return packed


def words_tokenizer(size: int) -> Any:
    """A tokenizer that knows the words w0 to w<size - 1>."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(WordLevel({f"w{number}": number for number in range(size)}, unk_token="w0"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="w1")
