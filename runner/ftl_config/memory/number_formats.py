"""Sizes of numbers: what weights are loaded in, and what the rest of training computes in.

The same decisions as ``ftl_runner.models.precision`` and ``.quantization``, without torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ftl_config.memory.devices import Device
from ftl_config.memory.weights import Kind, Weight

if TYPE_CHECKING:
    from ftl_config.schema.config import Config

FLOAT32 = 4
_ABSMAX_BLOCK = 64
"""Values of a 4-bit weight that share a constant."""
_NESTED_BLOCK = 256
"""Constants that share a constant, with double quantization."""


@dataclass(frozen=True, slots=True)
class NumberFormat:
    """``size``: bytes of a value that the model computes in; ``autocast``: mixed precision on top."""

    size: int
    autocast: bool


def number_format(config: Config, device: Device) -> NumberFormat:
    """What ``bf16: auto`` and its kin come to on a device."""
    keys = config.precision
    half = keys.bf16 in (True, "full") or keys.bfloat16 or keys.fp16 is True or keys.float16
    if keys.bf16 == "auto" and not half and not keys.float32:
        half = device.is_gpu and (device.has_bf16 or keys.fp16 is not False)
    whole = keys.bfloat16 or keys.float16 or keys.bf16 == "full"
    return NumberFormat(2 if half else FLOAT32, autocast=half and not whole)


def weight_bytes(weight: Weight, config: Config, numbers: NumberFormat) -> float:
    """Bytes of a weight as it is loaded, constants of its quantization with it.

    Under quantization PEFT turns everything that is not quantized into float32.
    """
    keys = config.adapter
    if not (keys.load_in_4bit or keys.load_in_8bit):
        return float(weight.count * numbers.size)
    if weight.kind is Kind.EXPERTS:
        return float(weight.count * FLOAT32)
    if weight.kind is not Kind.LINEAR:
        return float(weight.count * FLOAT32)
    if keys.load_in_8bit:
        return float(weight.count + FLOAT32 * weight.shape[0] * weight.copies)  # a scale for each row
    constants = weight.count / _ABSMAX_BLOCK
    nested = keys.bnb_4bit_use_double_quant is not False
    size = 1 + FLOAT32 / _NESTED_BLOCK if nested else FLOAT32
    return weight.count / 2 + constants * size
