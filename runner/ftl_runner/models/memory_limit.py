"""``gpu_memory_limit`` and ``max_memory``: how much of its GPU a process may use.

Each process trains on one GPU with a model of its own (or its shard), so a limit is one of PyTorch's allocator: what
needs more ends with out of memory, as on a smaller GPU. Nothing is moved to the CPU for it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from ftl_config.memory_size import parse_memory_size

if TYPE_CHECKING:
    from ftl_config import Config

logger = logging.getLogger(__name__)


def limit_gpu_memory(config: Config) -> None:
    """Hold this process to its limit, where there is one; before anything is put on the GPU."""
    import torch

    device = int(os.environ.get("LOCAL_RANK", "0"))
    limit_bytes = memory_limit(config, device)
    if limit_bytes is None:
        return
    if not torch.cuda.is_available():
        logger.warning("gpu_memory_limit and max_memory have no effect here: there is no GPU")
        return
    total_bytes = torch.cuda.get_device_properties(device).total_memory
    if limit_bytes >= total_bytes:
        logger.warning("the memory limit is more than the %.0f GiB that GPU %d has", total_bytes / 2**30, device)
    torch.cuda.set_per_process_memory_fraction(min(1.0, limit_bytes / total_bytes), device)


def memory_limit(config: Config, device: int) -> int | None:
    """Bytes that the process on GPU ``device`` may use; None without a limit."""
    keys = config.model
    if keys.gpu_memory_limit is not None:
        return parse_memory_size(keys.gpu_memory_limit, unit="GiB")
    for name, value in (keys.max_memory or {}).items():
        if str(name) == str(device):
            return parse_memory_size(value, unit="B")
    return None
