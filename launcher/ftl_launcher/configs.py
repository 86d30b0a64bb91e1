"""Loading a config for a command, with its warnings told on stderr."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ftl_launcher.console import say

if TYPE_CHECKING:
    from ftl_config import LoadedConfig


def load(
    source: str,
    overrides: Sequence[str],
    *,
    allow_unknown: bool = False,
    partial: bool = False,
    data_only: bool = False,
) -> LoadedConfig:
    """`ftl_config.load_config`, warnings printed.

    Raises:
        ConfigError: with every problem of the config.
    """
    from ftl_config import load_config

    loaded = load_config(source, list(overrides), allow_unknown=allow_unknown, partial=partial, data_only=data_only)
    for warning in loaded.warnings:
        say(str(warning))
    return loaded
