"""Packed sequences must not see each other: which models keep them apart, and how their batches have to look.

transformers masks by ``position_ids`` where there is neither an attention mask nor a cache; convolutions, recurrent
states and some older attention code know nothing of that. No model trains on packed rows unless its kind is known to
keep sequences apart (``ISOLATING``, each of which is tested) or it was seen to do so (``check_isolation``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ftl_config.wordlist import words
from ftl_runner.data.collate import Layout, PackedCollator
from ftl_runner.models.errors import ModelError
from ftl_runner.patches.transformers_lfm2 import MODULES as SHORT_CONVOLUTIONS
from ftl_runner.patches.transformers_lfm2 import isolate_short_convolutions

if TYPE_CHECKING:
    import torch

    from ftl_config import Config

ISOLATING = frozenset(
    words(
        """llama mistral mixtral qwen2 qwen2_moe qwen3 qwen3_moe gemma gemma2 gemma3_text phi phi3 gpt_neox gpt2 granite
        olmo2 stablelm starcoder2 smollm3 cohere lfm2 lfm2_moe"""
    )
)
"""Model types that keep packed sequences apart, under eager, SDPA and FlashAttention."""

_RECURRENT = frozenset(
    words(
        """jamba mamba mamba2 falcon_mamba falcon_h1 bamba zamba zamba2 rwkv recurrent_gemma nemotron_h qwen3_next
        qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text kimi_linear olmo_hybrid minimax"""
    )
)
"""Model types whose recurrent state runs on from one packed sequence into the next."""

_UNMASKED = frozenset(words("opt mpt bloom biogpt xglm doge"))
"""Model types whose attention or positions do not follow ``position_ids``."""

_MASKED = frozenset(words("falcon"))
"""Model types whose positions follow ``position_ids``, and whose attention has to be given a mask."""

_HINT = (
    "set sample_packing: false (group_by_length: true then saves most of the padding); "
    "eval_sample_packing and batch_flattening likewise"
)


def joins_sequences(config: Config) -> bool:
    """Whether any batch of this run has several sequences in a row."""
    data = config.data
    return bool(data.sample_packing or data.eval_sample_packing or data.batch_flattening is True)


def refuse_leaking_model(config: Config, model_type: str) -> None:
    """Refuse to pack for a model type that is known not to keep sequences apart; before any work is done.

    Raises:
        ModelError: with the key to change.
    """
    if not joins_sequences(config):
        return
    if model_type in _RECURRENT:
        why = "the recurrent state of one packed sequence would run on into the next"
    elif model_type in _UNMASKED:
        why = "its attention in transformers does not tell packed sequences apart"
    else:
        return
    raise ModelError(f"sample_packing cannot be used with models of type {model_type}: {why}", _HINT, exit_code=2)


def may_join_rows(config: Config) -> bool:
    """Whether unpacked rows are joined wherever that is exact and faster: the user neither forbids it nor pads."""
    data = config.data
    return data.batch_flattening in (None, "auto") and not data.sample_packing and not data.pad_to_sequence_len


def make_layout(config: Config, model_config: Any, *, by_document: bool = False) -> Layout:
    """How batches have to look for this model; prepares the model's code for packed rows where it needs that.

    Args:
        config: the configuration.
        model_config: transformers' configuration of the model.
        by_document: the model attends sequence by sequence (``document_attention``), so that padding is all that
            separate rows would add.
    """
    attention = str(getattr(model_config, "_attn_implementation", None) or "")
    varlen = "flash" in attention
    real_batches = config.data.multipack_real_batches
    numbered = model_config.model_type in SHORT_CONVOLUTIONS
    if numbered and (joins_sequences(config) or config.data.batch_flattening == "auto"):
        isolate_short_convolutions(model_config.model_type)
    flattens = config.data.batch_flattening
    if flattens == "auto":
        known = model_config.model_type in ISOLATING
        flattens = varlen and known and not config.data.sample_packing
    if by_document and may_join_rows(config):
        # A window shorter than the joined row would take a mask over all of it.
        flattens = not getattr(model_config, "sliding_window", None)
    return Layout(
        one_row=varlen or real_batches is False,  # FlashAttention isolates within one row only
        sequence_numbers=numbered,
        flatten=bool(flattens),
        block_mask=model_config.model_type in _MASKED and not varlen and not getattr(model_config, "alibi", False),
    )


def check_isolation(model: Any, layout: Layout) -> str | None:
    """See with a few tokens whether a model of an unknown type keeps packed sequences apart.

    Returns:
        What to warn of where it cannot be seen, because the weights are spread over ranks.

    Raises:
        ModelError: it does not.
    """
    model_type = model.config.model_type
    if model_type in ISOLATING:
        return None
    if any(parameter.is_meta or not parameter.numel() for parameter in model.parameters()):
        return f"sample_packing: whether {model_type} keeps packed sequences apart was not checked (sharded weights)"
    if _leaks(model, layout):
        raise ModelError(
            f"sample_packing cannot be used with this model ({model_type}): one packed sequence changes what the "
            "model says of the next",
            _HINT,
            exit_code=2,
        )
    return None


def _leaks(model: Any, layout: Layout) -> bool:
    """Whether the second sequence's logits depend on the first one, or differ from what it gives alone."""
    import torch

    vocabulary = model.get_input_embeddings().weight.shape[0]
    ids = torch.randint(0, vocabulary, (3, 7), generator=torch.Generator().manual_seed(0)).tolist()
    with _evaluating(model):
        packed, other = (_logits(model, layout, [first, ids[2]])[-7:] for first in ids[:2])
        alone = _logits(model, layout, [ids[2]])
    scale = float(alone.abs().max())
    # The same kernels on the same shapes: nothing but a leak makes a difference. Alone, shapes and rounding differ.
    return float((packed - other).abs().max()) > 1e-5 * scale or float((packed - alone).abs().max()) > 0.05 * scale


def _logits(model: Any, layout: Layout, sequences: list[list[int]]) -> torch.Tensor:
    """(tokens, vocabulary) of one packed row."""
    joined = [token for sequence in sequences for token in sequence]
    positions = [place for sequence in sequences for place in range(len(sequence))]
    row = {"input_ids": joined, "labels": joined, "position_ids": positions}
    batch = PackedCollator(0, layout=layout)([row])
    device = model.get_input_embeddings().weight.device
    inputs = {name: value.to(device) for name, value in batch.items() if name not in ("labels", "num_tokens")}
    logits: torch.Tensor = model(**inputs, use_cache=False).logits[0].float()
    return logits


@contextlib.contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
