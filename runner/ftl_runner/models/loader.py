"""Load the base model with the configured precision, attention and quantization."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ftl_runner.models.attention import choose_attention
from ftl_runner.models.precision import Precision
from ftl_runner.models.quantization import quantization_config
from ftl_runner.models.tokenizer import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ftl_config import Config

logger = logging.getLogger(__name__)


def load_base_model(config: Config, tokenizer: PreTrainedTokenizerBase, precision: Precision) -> PreTrainedModel:
    """The base model on CPU (or on its quantization device), embeddings grown to the tokenizer's size.

    Raises:
        ModelError: the model cannot be found, read, or does not exist in this transformers version.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    assert config.model.base_model is not None, "completeness rules require base_model"
    source: dict[str, Any] = {
        "revision": config.model.model_revision,
        "trust_remote_code": bool(config.model.trust_remote_code),
    }
    options: dict[str, Any] = {"dtype": precision.load_dtype}
    attention = choose_attention(config)
    if attention is not None:
        options["attn_implementation"] = attention
    quantization = quantization_config(config, precision)
    if quantization is not None:
        options["quantization_config"] = quantization
        options["device_map"] = _local_device()
    try:
        model_config = AutoConfig.from_pretrained(config.model.base_model_config or config.model.base_model, **source)
        _override(model_config, _config_overrides(config))
        model: Any = AutoModelForCausalLM.from_pretrained(
            config.model.base_model, config=model_config, **source, **options
        )
    except (OSError, ValueError) as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"cannot load the model {config.model.base_model!r}: {first_line}",
            "check base_model, HF_TOKEN for a gated model, and trust_remote_code for a model with its own code",
        ) from error
    _grow_embeddings(model, tokenizer)
    # A cache in training would let packed sequences see each other, and costs memory.
    model.config.use_cache = False
    return model  # type: ignore[no-any-return]


def _config_overrides(config: Config) -> dict[str, Any]:
    overrides = getattr(config.model, "overrides_of_model_config", None) or getattr(config.model, "model_config_", None)
    if overrides is None:
        return {}
    return dict(overrides) if isinstance(overrides, dict) else dict(overrides.model_dump(exclude_none=True))


def _override(model_config: Any, overrides: dict[str, Any]) -> None:
    for key, value in overrides.items():
        setattr(model_config, key, value)


def _grow_embeddings(model: Any, tokenizer: Any) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        logger.info("embeddings grow from %d to %d rows for added tokens", rows, len(tokenizer))
        model.resize_token_embeddings(len(tokenizer), mean_resizing=True)


def _local_device() -> dict[str, Any]:
    import os

    import torch

    if torch.cuda.is_available():
        return {"": int(os.environ.get("LOCAL_RANK", "0"))}
    return {"": "cpu"}
