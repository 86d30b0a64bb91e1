"""Choose the attention implementation: what was asked for where it is installed, else PyTorch's own."""

from __future__ import annotations

import importlib.util
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftl_config import Config

logger = logging.getLogger(__name__)

_NEEDS = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}


def choose_attention(config: Config) -> str | None:
    """The ``attn_implementation`` to load with; None leaves transformers' default (SDPA where the model has it)."""
    import torch

    wanted = config.model.attn_implementation
    if wanted is None:
        return None
    if wanted == "xformers":
        logger.warning("attn_implementation xformers: SDPA is used, whose memory-efficient kernel is the same one")
        return "sdpa"
    package = _NEEDS.get(wanted)
    if package is None:
        return wanted
    if torch.cuda.is_available() and importlib.util.find_spec(package) is not None:
        return wanted
    reason = "there is no GPU" if not torch.cuda.is_available() else f"the package {package} is not installed"
    logger.warning("attn_implementation %s: %s, so SDPA is used (same result, other speed)", wanted, reason)
    return "sdpa"
