"""The model families of the table: a small random model of each, with the proportions of a real one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Family:
    """One row of the table. Without a ``model_type`` it cannot be run here, and ``note`` says why."""

    name: str
    example: str
    """A model of the family, as one writes it in ``base_model``."""
    model_type: str | None
    """What ``config.json`` of that model calls its architecture."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Beside the sizes of ``tests/unit/runner/tiny_models.py``."""
    note: str | None = None


_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
_LOCAL_EXPERTS = {"num_local_experts": 8, "num_experts_per_tok": 2}
_NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}
_LAYER_KINDS = {"layer_types": ["sliding_attention", "full_attention"]}

_OWN_CODE = (
    "not in transformers and not run here: its code comes with the model and runs only with `trust_remote_code: true`; "
    "read it before you set that"
)

FAMILIES = (
    Family("Llama", "meta-llama/Llama-3.2-1B", "llama"),
    Family("Mistral", "mistralai/Mistral-7B-v0.1", "mistral", {"sliding_window": 8}),
    # Query heads to key heads 4 to 1, intermediate to hidden size 3.5.
    Family(
        "Mixtral 8x7B",
        "mistralai/Mixtral-8x7B-v0.1",
        "mixtral",
        {**_LOCAL_EXPERTS, "num_attention_heads": 8, "num_key_value_heads": 2, "intermediate_size": 112},
    ),
    # 6 to 1 and 2.67.
    Family(
        "Mixtral 8x22B",
        "mistralai/Mixtral-8x22B-v0.1",
        "mixtral",
        {
            **_LOCAL_EXPERTS,
            "hidden_size": 48,
            "num_attention_heads": 6,
            "num_key_value_heads": 1,
            "intermediate_size": 128,
        },
    ),
    Family("Pythia", "EleutherAI/pythia-1.4b-deduped", "gpt_neox"),
    Family("Cerebras-GPT", "cerebras/Cerebras-GPT-1.3B", "gpt2", _NO_DROPOUT),
    Family(
        "BTLM",
        "cerebras/btlm-3b-8k-base",
        None,
        note=_OWN_CODE,
    ),
    Family("MPT", "mosaicml/mpt-7b", "mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "expansion_ratio": 2}),
    Family("Falcon", "tiiuae/falcon-7b", "falcon", {"multi_query": True, "alibi": False}),
    Family("Falcon 40B", "tiiuae/falcon-40b", "falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    Family("GPT-J", "EleutherAI/gpt-j-6b", "gptj", {"rotary_dim": 4, **_NO_DROPOUT}),
    Family(
        "XGen",
        "Salesforce/xgen-7b-8k-base",
        "llama",
        {"num_key_value_heads": 4},
        note="run as the Llama that it is; its tokenizer comes with its own code and is not: read it, then set "
        "`trust_remote_code: true`",
    ),
    Family("Phi 1.5, 2", "microsoft/phi-2", "phi", {"num_key_value_heads": 4}),
    Family("Phi 3, 4", "microsoft/Phi-3-mini-4k-instruct", "phi3", {"num_key_value_heads": 4}),
    Family("RWKV 4", "RWKV/rwkv-4-169m-pile", "rwkv", {"attention_hidden_size": 32, "context_length": 256}),
    Family(
        "Qwen 1",
        "Qwen/Qwen-7B",
        None,
        note=_OWN_CODE,
    ),
    Family("Qwen 2", "Qwen/Qwen2-7B", "qwen2"),
    Family("Qwen 2.5", "Qwen/Qwen2.5-0.5B", "qwen2", {"tie_word_embeddings": True}),
    Family("Qwen 2 MoE", "Qwen/Qwen1.5-MoE-A2.7B", "qwen2_moe", {**_EXPERTS, "shared_expert_intermediate_size": 64}),
    Family("Qwen 3", "Qwen/Qwen3-0.6B", "qwen3", {"head_dim": 16, "tie_word_embeddings": True}),
    Family("Qwen 3 MoE", "Qwen/Qwen3-30B-A3B", "qwen3_moe", {"head_dim": 16, **_EXPERTS}),
    Family("Gemma 1", "google/gemma-2b", "gemma", {"head_dim": 16, "num_key_value_heads": 1}),
    Family("Gemma 2", "google/gemma-2-2b", "gemma2", {"head_dim": 16, "sliding_window": 8}),
    Family("Gemma 3", "google/gemma-3-1b-pt", "gemma3_text", {"head_dim": 16, "sliding_window": 8, **_LAYER_KINDS}),
    Family(
        "Jamba",
        "ai21labs/Jamba-v0.1",
        "jamba",
        {
            "num_experts": 2,
            "num_experts_per_tok": 1,
            "attn_layer_period": 2,
            "attn_layer_offset": 1,
            "expert_layer_period": 2,
            "expert_layer_offset": 1,
            "mamba_d_state": 8,
            "mamba_dt_rank": 4,
        },
    ),
    Family("LFM2", "LiquidAI/LFM2-1.2B", "lfm2", {"layer_types": ["conv", "full_attention"]}),
    Family(
        "LFM2 MoE",
        "LiquidAI/LFM2-8B-A1B",
        "lfm2_moe",
        {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1, **_EXPERTS},
    ),
)
