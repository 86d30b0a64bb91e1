"""Quantization of the base model: by bitsandbytes on loading (QLoRA, arXiv:2305.14314), or as it was released."""

from __future__ import annotations

import importlib.util
import inspect
from typing import TYPE_CHECKING, Any

from ftl_runner.models.errors import ModelError

if TYPE_CHECKING:
    from ftl_config import Config
    from ftl_runner.models.precision import Precision


def quantization_config(config: Config, precision: Precision) -> Any | None:
    """A transformers ``BitsAndBytesConfig``, or None where the base model is not quantized.

    Raises:
        ModelError: bitsandbytes is not installed, or ``bnb_config_kwargs`` names an option that it does not have.
    """
    keys = config.adapter
    if not (keys.load_in_4bit or keys.load_in_8bit):
        return None
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError(
            "load_in_4bit and load_in_8bit need bitsandbytes", "pip install 'ftl-tune[quantization]', or use our image"
        )
    from transformers import BitsAndBytesConfig

    options: dict[str, Any] = {"load_in_8bit": True}
    if keys.load_in_4bit:
        options = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": keys.bnb_4bit_quant_type or "nf4",
            "bnb_4bit_use_double_quant": keys.bnb_4bit_use_double_quant is not False,
            "bnb_4bit_compute_dtype": keys.bnb_4bit_compute_dtype or precision.load_dtype,
        }
    more = keys.bnb_config_kwargs or {}
    known = [name for name in inspect.signature(BitsAndBytesConfig).parameters if name != "kwargs"]
    for name in more:
        if name not in known:
            raise ModelError(f"bnb_config_kwargs: unknown option {name!r}", f"known are {', '.join(known)}", 2)
    return BitsAndBytesConfig(**options | more)


def keep_differentiable(model: Any) -> None:
    """Keep bitsandbytes from repacking 4-bit weights on a CPU.

    Where the processor has AVX512-BF16, the first evaluation turns weights into a form that only inference can use:
    from then on no gradient goes through the layer, and training goes on without one. The form is also less exact.
    """
    from bitsandbytes.nn import Linear4bit

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


_PACKAGES = {"gptq": ("gptqmodel", "optimum")}
"""What transformers needs to load a base that was released quantized, beyond what the runner has."""


def released_quantization(model_config: Any) -> str | None:
    """``gptq``, ``awq``, ... where the base was released quantized, as its config.json says."""
    settings = getattr(model_config, "quantization_config", None)
    if settings is None:
        return None
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    return str(getattr(method, "value", method))


def check_released_quantization(config: Config, model_config: Any) -> None:
    """Say before the model is loaded that it cannot be, or cannot be trained.

    Raises:
        ModelError: ``gptq`` of a base that is something else, a base that takes no adapter, or a missing package.
    """
    method, keys = released_quantization(model_config), config.adapter
    base = config.model.base_model
    if keys.gptq and method != "gptq":
        raise ModelError(f"gptq: {base} is not quantized with GPTQ", "leave gptq out, or name a GPTQ model", 2)
    if method == "awq":
        hint = "take the GPTQ or the full model; load_in_4bit quantizes the latter"
        raise ModelError(f"not yet supported: {base} is quantized with AWQ", hint, 2)
    if method != "gptq":
        return
    if keys.load_in_4bit or keys.load_in_8bit:
        raise ModelError(f"{base} is quantized with GPTQ already", "leave load_in_4bit and load_in_8bit out", 2)
    if keys.adapter is None:
        raise ModelError(f"{base} is quantized with GPTQ: its weights cannot be trained", "write adapter: lora", 2)
    missing = [name for name in _PACKAGES["gptq"] if importlib.util.find_spec(name) is None]
    if missing:
        hint = "pip install 'ftl-tune[gptq]'"
        raise ModelError(f"{base} is quantized with GPTQ, which needs {' and '.join(missing)}", hint, 2)
