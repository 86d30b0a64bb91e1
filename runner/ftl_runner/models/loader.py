"""Load the base model with the configured precision, attention and quantization."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ftl_runner.distributed.fsdp import check_shardable
from ftl_runner.failures import first_line
from ftl_runner.models.attention import choose_attention
from ftl_runner.models.classes import refuse_own_code, transformers_class
from ftl_runner.models.errors import ModelError
from ftl_runner.models.fake_quantization import check_torchao
from ftl_runner.models.heads import default_class, set_head, set_padding
from ftl_runner.models.memory_limit import limit_gpu_memory
from ftl_runner.models.overrides import override
from ftl_runner.models.positions import check_length, stretch_positions
from ftl_runner.models.precision import Precision
from ftl_runner.models.quantization import (
    check_released_quantization,
    keep_differentiable,
    quantization_config,
    released_quantization,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ftl_config import Config

logger = logging.getLogger(__name__)


_SOURCE_HINT = "check base_model, HF_TOKEN for a gated model, and trust_remote_code for a model with its own code"


def load_model_config(config: Config) -> Any:
    """The configuration of the base model, with ``model_config`` applied; takes milliseconds where it is local.

    Raises:
        ModelError: it cannot be found or read, or ``sequence_len`` or ``model_config`` asks for what it cannot have.
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
        refuse_own_code(keys.base_model_config or keys.base_model, error)
        message = f"cannot load the model {keys.base_model!r}: {first_line(error)}"
        raise ModelError(message, _SOURCE_HINT) from error
    set_head(model_config, config)
    override(model_config, config.model.overrides_of_model_config or {})
    check_length(config, model_config)
    return model_config


def load_base_model(config: Config, tokenizer: PreTrainedTokenizerBase, precision: Precision) -> PreTrainedModel:
    """The base model on CPU (or on its quantization device), embeddings grown to the tokenizer's size.

    Raises:
        ModelError: the model cannot be found, read, or does not exist in this transformers version.
    """
    from transformers.trainer_utils import align_special_tokens

    keys = config.model
    check_torchao(config)
    trusted = bool(keys.trust_remote_code)
    model_class = transformers_class("model_type", keys.model_type, default_class(config), trust_remote_code=trusted)
    source: dict[str, Any] = {"revision": keys.model_revision, "trust_remote_code": trusted}
    model_config = load_model_config(config)
    limit_gpu_memory(config)
    check_released_quantization(config, model_config)
    options = source | _load_options(config, precision)
    if released_quantization(model_config) == "gptq":
        options.setdefault("device_map", _local_device())
    try:
        model: Any = model_class.from_pretrained(keys.base_model, config=model_config, **options)
    except (OSError, ValueError, TypeError) as error:
        if isinstance(error, TypeError) and not keys.model_kwargs:
            raise
        refuse_own_code(keys.base_model, error)
        hint = "check model_kwargs" if isinstance(error, TypeError) else _SOURCE_HINT
        raise ModelError(f"cannot load the model {keys.base_model!r}: {first_line(error)}", hint) from error
    check_shardable(config, model)
    if config.adapter.load_in_4bit:
        keep_differentiable(model)
    _grow_embeddings(model, tokenizer, config)
    set_padding(model, tokenizer, config)
    align_special_tokens(model, tokenizer)  # else answers would not end at an end token of the user's
    stretch_positions(config, model.config)
    # A cache in training would let packed sequences see each other, and costs memory.
    model.config.use_cache = False
    return model  # type: ignore[no-any-return]


def _load_options(config: Config, precision: Precision) -> dict[str, Any]:
    """Arguments of ``from_pretrained``; those of ``model_kwargs`` win."""
    from transformers.integrations import is_deepspeed_zero3_enabled

    options: dict[str, Any] = {"dtype": precision.load_dtype}
    attention = choose_attention(config)
    if attention is not None:
        options["attn_implementation"] = attention
    quantization = quantization_config(config, precision)
    if quantization is not None:
        options["quantization_config"] = quantization
        if not is_deepspeed_zero3_enabled():  # it places weights itself
            options["device_map"] = _local_device()
    return options | dict(config.model.model_kwargs or {})


def _grow_embeddings(model: Any, tokenizer: Any, config: Config) -> None:
    weight = model.get_input_embeddings().weight
    rows = getattr(weight, "ds_shape", weight.shape)[0]  # ZeRO-3's weights are empty until they are gathered
    wanted = len(tokenizer)
    if config.model.resize_token_embeddings_to_32x:
        wanted = math.ceil(wanted / 32) * 32
    if wanted > rows:
        logger.info("embeddings grow from %d to %d rows for added tokens", rows, wanted)
        with _same_chance(config.training.seed):
            model.resize_token_embeddings(wanted, mean_resizing=config.model.mean_resizing_embeddings)


@contextlib.contextmanager
def _same_chance(seed: int) -> Iterator[None]:
    """New rows are drawn alike whenever the model is loaded: an adapter may be saved without them."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _local_device() -> dict[str, Any]:
    import os

    import torch

    if torch.cuda.is_available():
        return {"": int(os.environ.get("LOCAL_RANK", "0"))}
    return {"": "cpu"}
