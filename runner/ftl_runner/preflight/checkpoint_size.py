"""A rough size of what a run keeps on disk, from the weights that it starts with."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftl_config import Config

_TRAINING_STATE = 5
"""A checkpoint of a full fine-tune in bf16 is its weights and two moments in float32: five times the weights."""


def kept_bytes(config: Config) -> int:
    """Bytes of all checkpoints that are there at a time, and of the final model.

    0 where it is not known (a model that is still on a hub), or small (an adapter).
    """
    name = config.model.base_model
    folder = Path(name or "").expanduser()
    if config.adapter.adapter or not name or not folder.is_dir():
        return 0
    weights = sum(file.stat().st_size for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern))
    state = 1 if config.checkpointing.save_only_model else _TRAINING_STATE
    # One more than are kept: the oldest goes after the newest is complete.
    return weights * (state * (config.checkpointing.save_total_limit + 1) + 1)
