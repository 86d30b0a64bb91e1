"""Configs from snippets, and a model that takes no time."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ftl_config import Config, load_text
from ftl_runner.models.precision import Precision

CPU = Precision(torch.float32, bf16=False, fp16=False, tf32=None, use_cpu=True)

needs_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="says what happens without a GPU")


def config_of(lines: str) -> Config:
    return load_text(lines, name="test.yml", partial=True).config


def tiny_llama(dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, **sizes)).to(dtype)
