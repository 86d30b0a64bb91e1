"""Load the base model with the configured precision, attention and quantization."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

from ftl_runner.failures import first_line
from ftl_runner.models.attention import choose_attention
from ftl_runner.models.classes import transformers_class
from ftl_runner.models.errors import ModelError
from ftl_runner.models.heads import default_class, set_head, set_padding
from ftl_runner.models.precision import Precision
from ftl_runner.models.quantization import quantization_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ftl_config import Config

logger = logging.getLogger(__name__)


_SOURCE_HINT = "check base_model, HF_TOKEN for a gated model, and trust_remote_code for a model with its own code"


def load_model_config(config: Config) -> Any:
    """The configuration of the base model, with ``model_config`` applied; takes milliseconds where it is local.

    Raises:
        ModelError: it cannot be found or read.
    """
    keys = config.model
    trusted = bool(keys.trust_remote_code)
    config_class = transformers_class(
        "cls_model_config", keys.cls_model_config, "AutoConfig", trust_remote_code=trusted
    )
    try:
        model_config = config_class.from_pretrained(
            keys.base_model_config or keys.base_model, revision=keys.model_revision, trust_remote_code=trusted
        )
    except (OSError, ValueError) as error:
        message = f"cannot load the model {keys.base_model!r}: {first_line(error)}"
        raise ModelError(message, _SOURCE_HINT) from error
    set_head(model_config, config)
    _override(model_config, _config_overrides(config))
    return model_config


def load_base_model(config: Config, tokenizer: PreTrainedTokenizerBase, precision: Precision) -> PreTrainedModel:
    """The base model on CPU (or on its quantization device), embeddings grown to the tokenizer's size.

    Raises:
        ModelError: the model cannot be found, read, or does not exist in this transformers version.
    """
    keys = config.model
    trusted = bool(keys.trust_remote_code)
    model_class = transformers_class("model_type", keys.model_type, default_class(config), trust_remote_code=trusted)
    source: dict[str, Any] = {"revision": keys.model_revision, "trust_remote_code": trusted}
    model_config = load_model_config(config)
    try:
        model: Any = model_class.from_pretrained(
            keys.base_model, config=model_config, **source | _load_options(config, precision)
        )
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, TypeError) and not keys.model_kwargs:
            raise
        hint = "check model_kwargs" if isinstance(error, TypeError) else _SOURCE_HINT
        raise ModelError(f"cannot load the model {keys.base_model!r}: {first_line(error)}", hint) from error
    _grow_embeddings(model, tokenizer, config)
    set_padding(model, tokenizer, config)
    # A cache in training would let packed sequences see each other, and costs memory.
    model.config.use_cache = False
    return model  # type: ignore[no-any-return]


def _load_options(config: Config, precision: Precision) -> dict[str, Any]:
    """Arguments of ``from_pretrained``; those of ``model_kwargs`` win."""
    options: dict[str, Any] = {"dtype": precision.load_dtype}
    attention = choose_attention(config)
    if attention is not None:
        options["attn_implementation"] = attention
    quantization = quantization_config(config, precision)
    if quantization is not None:
        options["quantization_config"] = quantization
        options["device_map"] = _local_device()
    return options | dict(config.model.model_kwargs or {})


def _config_overrides(config: Config) -> dict[str, Any]:
    return dict(config.model.overrides_of_model_config or {})


def _override(model_config: Any, overrides: dict[str, Any]) -> None:
    for key, value in overrides.items():
        setattr(model_config, key, value)


def _grow_embeddings(model: Any, tokenizer: Any, config: Config) -> None:
    rows = model.get_input_embeddings().weight.shape[0]
    wanted = len(tokenizer)
    if config.model.resize_token_embeddings_to_32x:
        wanted = math.ceil(wanted / 32) * 32
    if wanted > rows:
        logger.info("embeddings grow from %d to %d rows for added tokens", rows, wanted)
        model.resize_token_embeddings(wanted, mean_resizing=config.model.mean_resizing_embeddings)


def _local_device() -> dict[str, Any]:
    import os

    import torch

    if torch.cuda.is_available():
        return {"": int(os.environ.get("LOCAL_RANK", "0"))}
    return {"": "cpu"}
