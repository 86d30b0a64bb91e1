"""DeepSpeed and FSDP: which part of weights, gradients and optimizer states one device holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ftl_config.assets import asset_path
from ftl_config.deepspeed import shipped_name

if TYPE_CHECKING:
    from ftl_config.memory.number_formats import NumberFormat
    from ftl_config.schema.config import Config

_BUCKET = 500_000_000
"""DeepSpeed's own reduce_bucket_size, in values."""


@dataclass(frozen=True, slots=True)
class Sharding:
    """Divisors of weights, gradients and optimizer states, and where they lie.

    ``master``: float32 copies of the trained weights beside them. ``size``: bytes of a trained weight, None where it is
    the model's own. ``bucket``: values in each of ``buckets`` buffers for gradients.
    """

    name: str = "one device"
    weights: int = 1
    gradients: int = 1
    states: int = 1
    master: bool = False
    size: int | None = None
    offload_states: bool = False
    offload_weights: bool = False
    bucket: int = 0
    buckets: int = 0
    gathers: bool = False
    """Layers are put together when they are needed."""
    keeps_gathered: bool = False


def sharding(config: Config, numbers: NumberFormat, num_devices: int, root: Path, hidden: int) -> Sharding:
    """What the ``deepspeed`` and ``fsdp*`` keys ask for on ``num_devices``."""
    keys = config.distributed
    if keys.deepspeed is not None:
        return _deepspeed(_settings(keys.deepspeed, root), numbers, num_devices, hidden)
    if keys.fsdp_key:
        return _fsdp(config, numbers, num_devices)
    return Sharding("DDP" if num_devices > 1 else "one device")


def _settings(value: str | Mapping[str, Any], root: Path) -> Mapping[str, Any]:
    if not isinstance(value, str):
        return value
    path = root / Path(value).expanduser()
    shipped = shipped_name(value)
    if not path.is_file():
        if shipped is None:
            return {}
        path = asset_path(f"templates/deepspeed/{shipped}")
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _deepspeed(settings: Mapping[str, Any], numbers: NumberFormat, num_devices: int, hidden: int) -> Sharding:
    zero = settings.get("zero_optimization") or {}
    stage = int(zero.get("stage", 0))
    low = any(_is_on(settings.get(key), numbers) for key in ("bf16", "fp16"))
    bucket = zero.get("reduce_bucket_size", _BUCKET)
    bucket = hidden * hidden if bucket == "auto" else int(bucket)
    return Sharding(
        f"ZeRO-{stage}",
        weights=num_devices if stage >= 3 else 1,
        gradients=num_devices if stage >= 2 else 1,
        states=num_devices if stage >= 1 else 1,
        master=low or stage >= 1,
        size=2 if low else None,
        offload_states=_offloads(zero, "offload_optimizer"),
        offload_weights=stage >= 3 and _offloads(zero, "offload_param"),
        bucket=bucket,
        buckets=0 if stage == 0 else 2 if zero.get("overlap_comm", stage >= 3) else 1,
        gathers=stage >= 3,
    )


def _is_on(section: Any, numbers: NumberFormat) -> bool:
    enabled = section.get("enabled", False) if isinstance(section, Mapping) else False
    return enabled is True or (enabled == "auto" and numbers.autocast)


def _offloads(zero: Mapping[str, Any], key: str) -> bool:
    section = zero.get(key)
    return isinstance(section, Mapping) and section.get("device", "none") in ("cpu", "nvme")


def _fsdp(config: Config, numbers: NumberFormat, num_devices: int) -> Sharding:
    keys = config.distributed.fsdp_config
    words = config.distributed.fsdp or ()
    offload = bool(keys and keys.offload_params) or "offload" in words
    return Sharding(
        "FSDP",
        weights=num_devices,
        gradients=num_devices,
        states=num_devices,
        size=4 if numbers.autocast else None,  # Accelerate turns what is trained into float32
        offload_states=offload,
        offload_weights=offload,
        gathers=True,
        keeps_gathered=bool(keys and keys.reshard_after_forward is False),
    )
