"""Which library spreads a run's weights and optimizer over ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ftl_config import Config

Sharding = Literal["deepspeed", "fsdp"]


def sharding_of(config: Config, world_size: int) -> Sharding | None:
    """None where every rank holds everything: DDP, or one process."""
    if config.distributed.deepspeed is not None:
        return "deepspeed"
    return "fsdp" if config.distributed.fsdp_key and world_size > 1 else None
