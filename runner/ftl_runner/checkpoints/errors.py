"""What can go wrong with checkpoints."""

from __future__ import annotations

from ftl_config.errors import FtlError


class StoreError(FtlError):
    """A checkpoint store cannot be reached, read or written."""


class ResumeError(FtlError):
    """A run cannot go on from the checkpoint it was asked to."""
