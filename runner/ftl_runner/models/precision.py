"""Precision: what dtype weights are loaded in, and which mixed precision the trainer runs.

``bf16: auto`` means bf16 where the device supports it, else fp16 on a GPU, else fp32. On a CPU, ``auto`` is fp32:
bf16 arithmetic is emulated on most of them; ``bf16: true`` is obeyed everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftl_runner.models.errors import ModelError

if TYPE_CHECKING:
    import torch

    from ftl_config import Config


@dataclass(frozen=True)
class Precision:
    """``bf16``/``fp16`` switch the trainer's mixed precision; weights are loaded as ``load_dtype``."""

    load_dtype: torch.dtype
    bf16: bool
    fp16: bool
    tf32: bool | None
    use_cpu: bool


def choose_precision(config: Config) -> Precision:
    """Resolve the precision keys against this machine.

    Raises:
        ModelError: a number format that this machine's device does not have.
    """
    import torch

    has_gpu = torch.cuda.is_available()
    has_bf16 = has_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    keys = config.precision
    wants_bf16 = keys.bf16 in (True, "true", "full") or bool(keys.bfloat16)
    wants_fp16 = keys.fp16 is True or bool(keys.float16)
    if keys.bf16 == "auto" and not (wants_fp16 or wants_bf16 or keys.float32):
        wants_bf16 = has_bf16
        wants_fp16 = has_gpu and not wants_bf16 and keys.fp16 is not False
    if wants_bf16 and has_gpu and not has_bf16:
        raise _missing("bf16 is not supported by this GPU (Ampere or newer has it)", "set bf16: auto or fp16: true")
    if wants_fp16 and not has_gpu:
        raise _missing("fp16 training needs a GPU", "set bf16: true, or leave both out to train in fp32 on this CPU")
    # bfloat16/float16 without AMP: the weights alone are in that type.
    amp = not (keys.bfloat16 or keys.float16) and keys.bf16 != "full"
    load_dtype = torch.bfloat16 if wants_bf16 else torch.float32
    if wants_fp16 and not (amp and config.adapter.adapter is None):
        load_dtype = torch.float16  # the scaled gradients of fp16 need weights in fp32, where those are trained
    return Precision(load_dtype, wants_bf16 and amp, wants_fp16 and amp, _tf32(config), use_cpu=not has_gpu)


def _tf32(config: Config) -> bool | None:
    """Whether float32 matrices are multiplied in TF32; None leaves it to PyTorch, on a CPU."""
    import torch

    wanted = config.precision.tf32
    if not torch.cuda.is_available():
        return None
    possible = torch.cuda.get_device_capability() >= (8, 0)
    if wanted is True and not possible:
        raise _missing("tf32 is not supported by this GPU (Ampere or newer has it)", "set tf32: auto")
    return possible if wanted == "auto" else wanted


def _missing(message: str, hint: str) -> ModelError:
    return ModelError(message, hint, exit_code=2)
