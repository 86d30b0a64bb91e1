"""What DeepSpeed and FSDP can be told, and what not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ftl_config.deepspeed import shipped_name
from ftl_config.rules.registry import Finding, Rule, error, warning
from ftl_config.schema.config import Config
from ftl_config.suggest import did_you_mean

COMPLETENESS = False

_FSDP_WORDS = ("full_shard", "shard_grad_op", "auto_wrap", "offload")
_FSDP_GONE = {
    "no_shard": "leave fsdp out: several processes then train with DDP",
    "hybrid_shard": "hybrid sharding is not yet supported; full_shard is",
    "hybrid_shard_zero2": "hybrid sharding is not yet supported; shard_grad_op is",
}


def fsdp_words_are_known(config: Config) -> Iterator[Finding]:
    """The words of the old list."""
    for index, word in enumerate(config.distributed.fsdp or ()):
        if word in _FSDP_GONE:
            yield error(f"not possible: {word}", ("fsdp", index), hint=_FSDP_GONE[word])
        elif word not in _FSDP_WORDS:
            hint = did_you_mean(word, _FSDP_WORDS) or f"known are {', '.join(_FSDP_WORDS)}"
            yield error(f"unknown word {word!r}", ("fsdp", index), hint=hint)


def fsdp_saves_what_it_can(config: Config) -> Iterator[Finding]:
    """How checkpoints and the model are written."""
    settings, saving = config.distributed.fsdp_config, config.checkpointing
    if settings is None:
        return
    path = ("fsdp_config", "state_dict_type")
    if settings.state_dict_type == "LOCAL_STATE_DICT":
        hint = "SHARDED_STATE_DICT writes a shard a rank"
        yield error("LOCAL_STATE_DICT went with the first FSDP", path, hint=hint)
    if settings.state_dict_type == "SHARDED_STATE_DICT" and saving.save_only_model:
        hint = "fsdp_config.state_dict_type: FULL_STATE_DICT"
        yield error("cannot be combined with SHARDED_STATE_DICT", "save_only_model", path, hint=hint)
    if settings.final_state_dict_type in ("SHARDED_STATE_DICT", "LOCAL_STATE_DICT"):
        message = "has no effect: the model is saved in one piece, ready to be loaded"
        yield warning(message, ("fsdp_config", "final_state_dict_type"))


def best_model_can_be_loaded(config: Config) -> Iterator[Finding]:
    """A sharded run loads the best checkpoint with its optimizer."""
    saving = config.checkpointing
    sharded = "deepspeed" if config.distributed.deepspeed else config.distributed.fsdp_key
    if sharded and saving.save_only_model and saving.load_best_model_at_end:
        message = f"cannot be combined with load_best_model_at_end and {sharded}"
        yield error(message, "save_only_model", "load_best_model_at_end", sharded)


def deepspeed_number_format_fits(config: Config) -> Iterator[Finding]:
    """A file that says bf16, and a config that says otherwise."""
    value, precision = config.distributed.deepspeed, config.precision
    if value is None or not _says_bf16(value):
        return
    name = value if isinstance(value, str) else "deepspeed"
    hint = "bf16: auto, or a DeepSpeed file in which bf16.enabled is auto (zero3.json)"
    if precision.bf16 is False:
        yield error(f"cannot be false: {name} sets bf16", "bf16", "deepspeed", hint=hint)
    elif precision.fp16:
        yield error(f"cannot be true: {name} sets bf16", "fp16", "deepspeed", hint=hint)


def _says_bf16(value: str | dict[str, Any]) -> bool:
    if isinstance(value, str):
        return (shipped_name(value) or "").startswith("zero3_bf16")
    block = value.get("bf16")
    return isinstance(block, dict) and block.get("enabled") is True


RULES: list[Rule] = [
    fsdp_words_are_known,
    fsdp_saves_what_it_can,
    best_model_can_be_loaded,
    deepspeed_number_format_fits,
]
