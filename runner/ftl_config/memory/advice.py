"""Which keys to change where memory is short: each change is estimated, and the most effective come first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.errors import FtlError
from ftl_config.load import load_text
from ftl_config.memory.activations import Batch
from ftl_config.memory.estimate import Estimate, accumulation, estimate, gib

if TYPE_CHECKING:
    from ftl_config.load import LoadedConfig
    from ftl_config.schema.config import Config

NUM_ADVICE = 3
_LEAST_EFFECT = 0.01
"""Share of the peak below which a change is not worth a word."""
_COMFORTABLE = 0.9
"""Share of a device that may be used."""
_SHORTEST = 256
"""Tokens; rows are not made shorter than this."""


@dataclass(frozen=True, slots=True)
class Advice:
    """A change of keys: what they become, and the peak then."""

    changes: Mapping[str, Any]
    peak_bytes: float
    saved_bytes: float
    side_effect: str = ""

    def __str__(self) -> str:
        keys = ", ".join(f"{key}: {_text(value)}" for key, value in self.changes.items())
        effect = f"-{gib(self.saved_bytes)}, then {gib(self.peak_bytes)}"
        return f"{keys} ({effect}{'; ' + self.side_effect if self.side_effect else ''})"


def advise(
    loaded: LoadedConfig,
    model_config: Mapping[str, Any],
    now: Estimate,
    *,
    root: Path = Path(),
    batch: Batch | None = None,
    count: int = NUM_ADVICE,
) -> list[Advice]:
    """The changes that save most, each by itself. Changes that the config's own rules refuse are left out.

    Args:
        loaded: the config as it is.
        model_config: the model's config.json.
        now: its estimate.
        root: folder that relative paths in the config start from.
        batch: the batch that ``now`` was made for, where it is not the largest that the config allows.
        count: how many.
    """
    text = loaded.to_yaml()
    found: dict[str, Advice] = {}
    for changes, side_effect in _candidates(loaded.config, now):
        changed = _changed(text, changes)
        if changed is None:
            continue
        then = estimate(
            changed, model_config, now.device, now.num_devices, root=root, batch=_batch(batch, loaded.config, changed)
        ).peak_bytes
        advice = Advice(changes, then, now.peak_bytes - then, side_effect)
        first = next(iter(changes))
        if advice.saved_bytes > _LEAST_EFFECT * now.peak_bytes and _is_better(advice, found.get(first), now):
            found[first] = advice
    return sorted(found.values(), key=lambda advice: -advice.saved_bytes)[:count]


def _is_better(advice: Advice, other: Advice | None, now: Estimate) -> bool:
    """Of changes of one key the mildest that fits counts, else the most effective; milder ones come first."""
    if other is None:
        return True
    return other.peak_bytes > _COMFORTABLE * now.device.memory_bytes and advice.saved_bytes > other.saved_bytes


def _batch(batch: Batch | None, config: Config, changed: Config) -> Batch | None:
    """A batch at hand as the changed keys would have made it."""
    if batch is None:
        return None
    rows = batch.rows * changed.training.micro_batch_size / config.training.micro_batch_size
    length = min(batch.length, changed.data.sequence_len)
    return Batch(max(1, round(rows)), length, batch.mask)


def _changed(text: str, changes: Mapping[str, Any]) -> Config | None:
    flags = [f"--{key}={_text(value)}" for key, value in changes.items()]
    try:
        return load_text(text, flags, partial=True).config
    except FtlError:
        return None


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _candidates(config: Config, now: Estimate) -> Iterator[tuple[dict[str, Any], str]]:
    """Changes and what else they change; of those with the same first key, milder ones first."""
    training, adapter = config.training, config.adapter
    rows = training.micro_batch_size
    while rows > 1:
        rows //= 2
        yield _fewer_rows(config, rows), ""
    if not training.gradient_checkpointing:
        yield {"gradient_checkpointing": True}, "about a third slower"
    length = config.data.sequence_len
    while length >= 2 * _SHORTEST:
        length //= 2
        yield {"sequence_len": length}, "longer rows are cut or dropped"
    quantized = adapter.load_in_4bit or adapter.load_in_8bit
    if adapter.adapter is None:
        lora = {"adapter": "lora", "lora_r": 16, "lora_alpha": 32, "lora_target_linear": True}
        yield lora, "trains an adapter in place of all weights"
    elif not quantized:
        yield {"load_in_4bit": True, "adapter": "qlora"}, "frozen weights in 4 bits"
    yield from _precision(config, now)
    yield from _optimizers(config, now)
    yield from _sharding(config, now, quantized)
    if now.device.is_gpu:
        yield {"liger_fused_linear_cross_entropy": True}, "same result"
        if now.batch.mask and "flash" not in (config.model.attn_implementation or ""):
            yield {"attn_implementation": "flash_attention_2"}, "same result"


def _fewer_rows(config: Config, rows: int) -> dict[str, Any]:
    """Fewer rows at a time, and as many in a step as before."""
    training = config.training
    if training.batch_size is not None:
        return {"micro_batch_size": rows}
    return {
        "micro_batch_size": rows,
        "gradient_accumulation_steps": accumulation(config) * training.micro_batch_size // rows,
    }


def _precision(config: Config, now: Estimate) -> Iterator[tuple[dict[str, Any], str]]:
    keys = config.precision
    half = keys.bf16 in (True, "full") or keys.fp16 or keys.bfloat16 or keys.float16
    if not half and (not now.device.is_gpu or keys.bf16 != "auto") and now.device.has_bf16 and not keys.float32:
        yield {"bf16": True}, "less exact"


def _optimizers(config: Config, now: Estimate) -> Iterator[tuple[dict[str, Any], str]]:
    distributed = config.distributed
    sharded = distributed.deepspeed is not None or distributed.fsdp_key
    if config.training.optimizer.startswith("adamw") and "8bit" not in config.training.optimizer and not sharded:
        yield {"optimizer": "adamw_8bit"}, "needs bitsandbytes"
    if config.training.optimizer != "adafactor" and config.adapter.adapter is None and not sharded:
        yield {"optimizer": "adafactor"}, "another optimizer: choose its learning rate anew"


def _sharding(config: Config, now: Estimate, quantized: bool) -> Iterator[tuple[dict[str, Any], str]]:
    if quantized or config.distributed.fsdp_key or not now.device.is_gpu:
        return
    if now.num_devices > 1:
        yield {"deepspeed": "zero2.json"}, ""
        yield {"deepspeed": "zero3_bf16.json"}, "more traffic between GPUs"
    yield {"deepspeed": "zero3_bf16_cpuoffload_all.json"}, "weights and optimizer in CPU memory: much slower"
