"""A random Llama of two layers on disk, for a tokenizer: trains in milliseconds a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def write_tiny_llama(target: Path, tokenizer: Any, *, tied: bool = True) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    settings = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(settings).save_pretrained(target)
    tokenizer.save_pretrained(target)
