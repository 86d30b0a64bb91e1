"""Quantization other than bitsandbytes."""

from typing import Literal

from ftl_config.schema.types import Count, NonNegativeInt, Options, Section

AoDtype = Literal["int4", "int8", "float8_e4m3fn", "float8", "fp8", "nvfp4", "mxfp4"]


class PtqConfig(Section):
    """What to quantize to, after training."""

    weight_dtype: AoDtype = "int8"
    """Type of weights."""
    activation_dtype: AoDtype | None = None
    """Type of activations."""
    quantize_embedding: bool | None = None
    """Quantize embeddings too."""
    group_size: Count | None = 32
    """Values that share a scale."""


class QatConfig(Section):
    """What training pretends to be quantized to."""

    weight_dtype: AoDtype = "int8"
    """Type of weights."""
    activation_dtype: AoDtype | None = None
    """Type of activations."""
    quantize_embedding: bool | None = None
    """Quantize embeddings too."""
    group_size: Count | None = 32
    """Values that share a scale."""
    fake_quant_after_n_steps: NonNegativeInt | None = None
    """Step from which quantization is pretended."""


class QuantizationSection(Section):
    """Quantization other than bitsandbytes."""

    model_quantization_config: str | None = None
    """Quantization that the model was released with: Mxfp4Config, FineGrainedFP8Config."""
    model_quantization_config_kwargs: Options | None = None
    """Arguments of that config: {dequantize: true} loads plain weights."""
    quantize_moe_experts: bool = False
    """Quantize expert weights while loading."""
    nonexpert_quantization: str | None = None
    """Quantization of layers that are not experts."""
    dsv4_fp8_nonexpert_mode: str | None = None
    """How DeepSeek V4's FP8 weights are held."""
    dsv4_bf16_all: bool | None = None
    """Cast DeepSeek V4's float32 weights to the compute type."""
    dsv4_fp4_grouped_mode: str | None = None
    """FP4 grouped experts of DeepSeek V4."""
    gemma4_fp8_nonexpert: bool | None = None
    """FP8 for Gemma 4's layers that are not experts."""
    gemma4_nf4_nonexpert: bool | None = None
    """NF4 for Gemma 4's layers that are not experts."""
    nvfp4_merge_aware: bool | None = None
    """Train with the rounding that merging into NFVP4 weights will do."""
    nvfp4_merge_aware_start_step: int | float | None = None
    """Step (or share of the steps) from which it does."""
    qat: QatConfig | None = None
    """Quantization-aware training."""
    quantization: PtqConfig | None = None
    """Quantization after training (the quantize command)."""
