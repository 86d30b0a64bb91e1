"""Quantization-aware training through torchao: layers that compute with rounded weights and train the full ones.

What is saved is a plain model, whose weights have learned to be rounded. torchao's QAT is described in
https://pytorch.org/blog/quantization-aware-training.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from ftl_runner.models.errors import ModelError

if TYPE_CHECKING:
    from ftl_config import Config
    from ftl_config.schema.quantization import QatConfig

_QUANTIZERS = ("weight_fake_quantizer", "activation_fake_quantizer")


def check_torchao(config: Config) -> None:
    """Say that torchao is missing before the model is loaded.

    Raises:
        ModelError: it is needed and not installed.
    """
    if config.quantization.qat is not None and importlib.util.find_spec("torchao") is None:
        raise ModelError("qat needs torchao", "pip install 'ftl-tune[qat]'", 2)


def pretend_quantized(model: Any, settings: QatConfig) -> None:
    """Put torchao's layers in place of the linear ones, and of the embedding where that is asked for.

    Raises:
        ModelError: rows that ``group_size`` does not divide.
    """
    from torch.nn import Embedding, Linear
    from torchao.quantization import quantize_
    from torchao.quantization.qat import QATConfig

    kinds = (Linear, Embedding) if settings.quantize_embedding else (Linear,)
    for name, module in model.named_modules():
        if isinstance(module, kinds) and settings.group_size and module.weight.shape[1] % settings.group_size:
            message = f"qat.group_size: {settings.group_size} does not divide the {module.weight.shape[1]} columns"
            raise ModelError(f"{message} of {name}", "take a smaller power of two", 2)
    quantize_(model, _linear_config(settings))
    if settings.quantize_embedding:
        config = QATConfig(weight_config=_integers(settings))
        quantize_(model, config, filter_fn=lambda module, _: isinstance(module, Embedding))


def pretend(model: Any, *, on: bool) -> None:
    """Switch the rounding on or off."""
    for module in model.modules():
        for name in _QUANTIZERS:
            quantizer = getattr(module, name, None)
            if quantizer is not None:
                quantizer.enabled = on


def _linear_config(settings: QatConfig) -> Any:
    import torch
    from torchao.quantization import Int4WeightOnlyConfig
    from torchao.quantization.qat import IntxFakeQuantizeConfig, QATConfig

    if settings.activation_dtype is not None:
        activations = IntxFakeQuantizeConfig(torch.int8, "per_token", is_symmetric=False)
        return QATConfig(weight_config=_integers(settings), activation_config=activations)
    if settings.weight_dtype == "int4":
        return QATConfig(Int4WeightOnlyConfig(group_size=settings.group_size or 128))
    return QATConfig(weight_config=_integers(settings))


def _integers(settings: QatConfig) -> Any:
    """Signed integers around zero, a scale for each group of a row, or for each row."""
    import torch
    from torchao.quantization.qat import IntxFakeQuantizeConfig

    dtype = {"int4": torch.int4, "int8": torch.int8}[settings.weight_dtype]
    if settings.group_size is None:
        return IntxFakeQuantizeConfig(dtype, "per_channel", is_symmetric=True)
    return IntxFakeQuantizeConfig(dtype, group_size=settings.group_size, is_symmetric=True)
