"""Faster or leaner implementations."""

from typing import Literal

from ftl_config.schema.types import Count, Section


class KernelsSection(Section):
    """Faster or leaner implementations of the same mathematics."""

    liger_rope: bool = False
    """Liger's rotary embedding."""
    liger_rms_norm: bool = False
    """Liger's RMSNorm."""
    liger_rms_norm_gated: bool = False
    """Liger's gated RMSNorm."""
    liger_layer_norm: bool = False
    """Liger's LayerNorm."""
    liger_glu_activation: bool = False
    """Liger's SwiGLU and GeGLU."""
    liger_cross_entropy: bool = False
    """Liger's cross entropy."""
    liger_fused_linear_cross_entropy: bool = False
    """Liger's cross entropy fused with the output layer: logits are never stored."""
    liger_use_token_scaling: bool = False
    """Multiply each token's loss with its probability (needs the fused cross entropy)."""
    cut_cross_entropy: bool = False
    """Cross entropy without stored logits (Apple's)."""
    chunked_cross_entropy: bool = False
    """Cross entropy in pieces."""
    chunked_cross_entropy_num_chunks: Count | None = None
    """Number of those pieces."""
    flash_attn_cross_entropy: bool = False
    """flash-attn's cross entropy."""
    flash_attn_fuse_mlp: bool = False
    """flash-attn's fused MLP."""
    flash_optimum: bool = False
    """BetterTransformer."""
    lora_mlp_kernel: bool | None = None
    """Fused LoRA for MLPs."""
    lora_qkv_kernel: bool | None = None
    """Fused LoRA for query, key and value."""
    lora_o_kernel: bool | None = None
    """Fused LoRA for the attention's output."""
    lora_embedding_kernel: bool | None = None
    """Fused LoRA for embeddings."""
    fused_attn_kernel: bool | None = None
    """Fused norm and rotary embedding in attention."""
    sdpa_varlen: bool | None = None
    """Packed rows through torch's variable-length attention."""
    large_head_attention: Literal["auto", "sdpa", "triton_flash"] | None = None
    """Kernel for attention heads wider than 256."""
    gemma4_hybrid_attn_impl: bool | None = None
    """Gemma 4: flash attention in sliding-window layers, sdpa in the others."""
    use_kernels: bool | None = None
    """Kernels from the Hugging Face hub."""
    experts_implementation: str | None = None
    """Implementation of mixture-of-experts layers: eager, batched_mm, grouped_mm, scattermoe, sonicmoe."""
    expert_backend: str | None = None
    """The same, by another name."""
    use_scattermoe: bool | None = None
    """ScatterMoE kernels."""
    use_sonicmoe: bool | None = None
    """SonicMoE kernels."""
    use_dsv4_kernels: bool | None = None
    """Kernels for DeepSeek V4."""
    use_glm_dsa_kernels: bool | None = None
    """Kernels for GLM's sparse attention."""
    moe_grouped_backend: str | None = None
    """Matrix multiplication of grouped experts."""
    moe_dequant_chunk_size: Count | None = None
    """Experts dequantized at a time."""
    moe_bnb_fast: bool | None = None
    """One-launch path for 4-bit experts."""
    dsv4_fp8_lora_kernel: bool | None = None
    """FP8 LoRA kernel for DeepSeek V4."""
    dsv4_shared_mlp_lora_kernel: bool | None = None
    """LoRA kernel for DeepSeek V4's shared expert."""
    tiled_mlp: bool = False
    """Compute MLPs in pieces of the sequence."""
    tiled_mlp_num_shards: Count | None = None
    """Number of those pieces."""
    tiled_mlp_use_original_mlp: bool = True
    """Keep the model's own MLP code in each piece."""
