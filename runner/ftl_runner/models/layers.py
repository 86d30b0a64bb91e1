"""The layers that an adapter works on: their weights in and out, quantized or not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ftl_runner.models.errors import ModelError

if TYPE_CHECKING:
    import torch

    from ftl_config import Config
    from ftl_runner.models.base_files import BaseFiles
    from ftl_runner.models.precision import Precision

_PREFIX = "base_model.model."
ADAPTER = "default"


def lora_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """PEFT's LoRA layers by the name that their module has in the plain model."""
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name.removeprefix(_PREFIX), module


def is_linear(layer: Any) -> bool:
    """Whether a wrapped module is a LoRA layer on a matrix that is multiplied with, whatever it is stored as."""
    from peft.tuners.lora import LoraLayer
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, LoraLayer) and isinstance(layer.get_base_layer(), Linear | Conv1D)


def is_quantized(layer: Any) -> bool:
    """Whether bitsandbytes holds the weight of a LoRA layer's base."""
    return type(layer.get_base_layer().weight).__name__ in ("Params4bit", "Int8Params")


def weight_of(layer: Any) -> torch.Tensor:
    """The weight that the base of a LoRA layer computes with, in float32 and as (out, in)."""
    from peft.utils.integrations import dequantize_module_weight

    base = layer.get_base_layer()
    if is_quantized(layer):
        base.state_dict()  # undoes the order that bitsandbytes brings 4-bit weights into for inference on a CPU
    weight = dequantize_module_weight(base).detach().float()
    return weight.T if layer.fan_in_fan_out else weight


def full_weight(files: BaseFiles, name: str, layer: Any, model: Any) -> torch.Tensor:
    """The weight of a layer's base as it is on disk, in float32 and as (out, in), on the layer's device.

    Raises:
        ModelError: the files have no tensor of that name.
    """
    from transformers.pytorch_utils import Conv1D

    place = files.place(f"{name}.weight", model.base_model.model.base_model_prefix)
    if place is None:
        raise ModelError(
            f"the files of the base have no tensor {name}.weight",
            "with float32 and without load_in_4bit and load_in_8bit the weights need not be read again",
        )
    base = layer.get_base_layer()
    weight = files.read(place).to(base.weight.device).float()
    return weight.T if isinstance(base, Conv1D) or getattr(base, "source_cls", None) is Conv1D else weight


def set_weight(layer: Any, weight: torch.Tensor) -> None:
    """Give the base of a LoRA layer this weight, (out, in), in the type and quantization that it has."""
    base = layer.get_base_layer()
    if is_quantized(layer):
        _requantize(base, weight)
    else:
        value = weight.T if layer.fan_in_fan_out else weight
        base.weight.data.copy_(value)


def _requantize(base: Any, weight: torch.Tensor) -> None:
    """bitsandbytes quantizes when a parameter leaves the CPU's plain memory for its device."""
    import bitsandbytes

    old = base.weight
    if isinstance(old, bitsandbytes.nn.Int8Params):
        new = bitsandbytes.nn.Int8Params(weight.cpu(), requires_grad=False, has_fp16_weights=False)
        base.weight = new.to(old.device)
        base.state.reset_grads()
        base.state.SCB = base.weight.SCB
    else:
        settings = {
            "blocksize": old.blocksize,
            "compress_statistics": old.compress_statistics,
            "quant_type": old.quant_type,
            "quant_storage": old.quant_storage,
        }
        value = weight.to("cpu", old.quant_state.dtype)
        base.weight = bitsandbytes.nn.Params4bit(value, requires_grad=False, **settings).to(old.device)


class Imitation:
    """A weight as quantization would leave it, for a base that is held in full.

    Args:
        config: ``load_in_4bit`` and its keys, or ``load_in_8bit``; with neither, plain nf4 or int8 as
            ``loftq_bits`` has it.
        precision: what a weight is cast to before it is quantized, as on loading.
    """

    def __init__(self, config: Config, precision: Precision) -> None:
        from ftl_runner.models.quantization import quantization_config

        self._dtype = precision.load_dtype
        bits = config.adapter.loftq_bits
        settings = quantization_config(config, precision)
        self._bits = 4 if config.adapter.load_in_4bit or (bits == 4 and settings is None) else 8
        self._type = settings.bnb_4bit_quant_type if settings is not None else "nf4"
        self._nested = bool(settings is not None and settings.bnb_4bit_use_double_quant)
        self._skipped = list((settings is not None and settings.llm_int8_skip_modules) or [])

    def applies(self, name: str, model: Any) -> bool:
        """Whether a module of this name would be quantized; ``model`` is the plain one, wrapped layers or not."""
        from transformers.quantizers.base import get_keys_to_not_convert
        from transformers.quantizers.quantizers_utils import should_convert_module

        kept = [key.removesuffix(".base_layer") for key in get_keys_to_not_convert(model)]
        return bool(should_convert_module(name, [*kept, *self._skipped]))

    def of(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight, (out, in), quantized and put back into float32."""
        from bitsandbytes import functional

        plain = weight.detach().to(self._dtype).contiguous()
        if self._bits == 8:
            values, scales, _ = functional.int8_vectorwise_quant(plain.half())
            return functional.int8_vectorwise_dequant(values, scales).float()  # type: ignore[no-any-return]
        values, state = functional.quantize_4bit(
            plain, blocksize=64, compress_statistics=self._nested, quant_type=self._type
        )
        return functional.dequantize_4bit(values, state).float()  # type: ignore[no-any-return]
