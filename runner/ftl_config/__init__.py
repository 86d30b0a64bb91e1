"""The config contract that launcher and runner share: one Axolotl-compatible YAML, typed and checked.

Names are imported at first use: ``ftl_config.protocol`` and ``FtlError`` must not cost what pydantic costs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ftl_config.errors import ConfigError, FtlError, Problem
    from ftl_config.json_schema import config_schema
    from ftl_config.load import LoadedConfig, load_config, load_text
    from ftl_config.nodes import Origin
    from ftl_config.rows import Row, describe
    from ftl_config.schema.config import Config
    from ftl_config.schema.data import DatasetSpec

_MODULES = {
    "Config": "schema.config",
    "ConfigError": "errors",
    "DatasetSpec": "schema.data",
    "FtlError": "errors",
    "LoadedConfig": "load",
    "Origin": "nodes",
    "Problem": "errors",
    "Row": "rows",
    "config_schema": "json_schema",
    "describe": "rows",
    "load_config": "load",
    "load_text": "load",
}

__all__ = [
    "Config",
    "ConfigError",
    "DatasetSpec",
    "FtlError",
    "LoadedConfig",
    "Origin",
    "Problem",
    "Row",
    "config_schema",
    "describe",
    "load_config",
    "load_text",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
