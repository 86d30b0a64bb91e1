"""The config as rows, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftl_config.axolotl import table
from ftl_config.keys import LAUNCH, keys, value_of
from ftl_config.load import LoadedConfig
from ftl_config.nodes import DEFAULT, Origin


@dataclass(frozen=True, slots=True)
class Row:
    """One key of the resolved config."""

    key: str
    value: Any
    origin: Origin
    section: str


def describe(loaded: LoadedConfig) -> list[Row]:
    """Every key that is implemented or was set, in the order of the schema; the launch section key by key."""
    rows: list[Row] = []
    for name, key in keys().items():
        origin = loaded.origins[name]
        if name == LAUNCH:
            rows.extend(_launch_rows(loaded))
        elif origin.kind != "default" or table()[name].name == "implemented":
            rows.append(Row(name, value_of(loaded.config, name), origin, key.section))
    return rows


def _launch_rows(loaded: LoadedConfig) -> list[Row]:
    launch = loaded.config.launch
    rows = []
    for name in type(launch).model_fields:
        origin = loaded.launch_origins.get(name, DEFAULT)
        rows.append(Row(f"{LAUNCH}.{name}", getattr(launch, name), origin, LAUNCH))
    return rows
