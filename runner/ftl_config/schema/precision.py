"""Number formats."""

from typing import Literal

from ftl_config.schema.types import Section


class PrecisionSection(Section):
    """Number formats."""

    bf16: bool | Literal["auto", "full"] | None = "auto"
    """Load and compute in bfloat16 (adapters stay in float32); auto: where the device can. full: without autocast."""
    fp16: bool | None = None
    """Compute in float16 with loss scaling (a full fine-tune keeps float32 weights); what bf16: auto falls back to."""
    tf32: bool | Literal["auto"] | None = "auto"
    """Multiply float32 matrices in TF32 on GPUs that can."""
    bfloat16: bool = False
    """Hold everything in bfloat16, master weights too."""
    float16: bool = False
    """Hold everything in float16, master weights too."""
    float32: bool = False
    """Hold everything in float32."""
    fp8: bool = False
    """Train linear layers in FP8."""
    fp8_enable_fsdp_float8_all_gather: bool = False
    """Gather FSDP weights in FP8."""
