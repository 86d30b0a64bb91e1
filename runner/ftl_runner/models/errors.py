"""What goes wrong between a configuration and a loaded model."""

from __future__ import annotations

from ftl_config.errors import FtlError


class ModelError(FtlError):
    """The base model, its tokenizer or its adapter cannot be made as configured."""
