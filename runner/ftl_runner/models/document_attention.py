"""Attention of packed rows, sequence by sequence: SDPA on a processor without the mask over the whole row.

With a mask of blocks, PyTorch works out every pair of tokens of a row and throws most of them away. Here each sequence
is attended to by itself, causally: the same sums, for a row of several sequences a fraction of the work. On a GPU
FlashAttention's kernel for packed rows does the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch

from ftl_config.wordlist import words

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAME = "ftl_documents"
"""Registered with transformers beside ``sdpa`` and ``eager``."""

MODEL_TYPES = frozenset(
    words(
        """llama mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe gemma phi phi3 gpt_neox granite olmo2 stablelm
        starcoder2 smollm3 cohere"""
    )
)
"""Model types that hand ``position_ids`` to their attention and have no other mask; each is tested."""


def attend_by_document(model: PreTrainedModel) -> bool:
    """Have a model whose batches are packed attend sequence by sequence, where that is known to be the same.

    Returns:
        Whether it does now.
    """
    config = model.config
    if config.model_type not in MODEL_TYPES or config._attn_implementation != "sdpa":
        return False
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, _attention)
    AttentionMaskInterface.register(NAME, _mask)
    model.set_attn_implementation(NAME)
    return True


def _mask(*args: Any, **kwargs: Any) -> Any:
    """No mask where whole sequences stand side by side and each token sees all before it in its own."""
    from transformers.masking_utils import sdpa_mask

    given = kwargs.get("attention_mask")
    length, window = kwargs["kv_length"], kwargs.get("local_size")
    whole = kwargs["q_length"] == length and not kwargs.get("use_vmap") and not kwargs.get("q_offset")
    if given is None and whole and (window is None or window >= length):
        return None
    return sdpa_mask(*args, **kwargs)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Shapes: query (rows, heads, length, size), key and value likewise with their own heads; out (rows, length, heads,
    size)."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    positions = kwargs.get("position_ids")
    if attention_mask is not None or positions is None or query.shape[2] != key.shape[2]:
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    rows = []
    for row, starts in enumerate(positions.expand(query.shape[0], -1)):
        parts = [
            torch.nn.functional.scaled_dot_product_attention(
                query[row : row + 1, :, part],
                key[row : row + 1, :, part],
                value[row : row + 1, :, part],
                dropout_p=dropout,
                scale=scaling,
                is_causal=True,
                enable_gqa=query.shape[1] != key.shape[1],
            )
            for part in _documents(starts)
        ]
        rows.append(torch.cat(parts, dim=2))
    return torch.cat(rows).transpose(1, 2).contiguous(), None


def _documents(positions: torch.Tensor) -> Iterator[slice]:
    """The stretches of a row (length,) in which positions count up by one."""
    breaks = (positions[1:] != positions[:-1] + 1).nonzero().flatten().add(1).tolist()
    edges = [0, *breaks, len(positions)]
    yield from (slice(start, stop) for start, stop in pairwise(edges))
