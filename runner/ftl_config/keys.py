"""The flat view: every YAML key, the section that holds it, its type and default."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from pydantic.fields import FieldInfo

from ftl_config.schema.config import Config
from ftl_config.schema.types import Section

LAUNCH = "launch"
ATTRIBUTE_NAMES = {"model_config": "overrides_of_model_config"}
"""Keys whose attribute must be called otherwise: ``model_config`` is pydantic's own name."""

_KEY_NAMES = {attribute: key for key, attribute in ATTRIBUTE_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Key:
    """One top-level key of the YAML."""

    name: str
    section: str
    attribute: str
    field: FieldInfo

    @property
    def annotation(self) -> Any:
        return self.field.annotation

    @property
    def default(self) -> Any:
        return self.field.get_default(call_default_factory=True)


@cache
def section_types() -> dict[str, type[Section]]:
    """Name in ``Config`` to section, in the order of ``Config``."""
    types: dict[str, type[Section]] = {}
    for name, field in Config.model_fields.items():
        assert isinstance(field.annotation, type)
        assert issubclass(field.annotation, Section)
        types[name] = field.annotation
    return types


@cache
def keys() -> dict[str, Key]:
    """All keys by name. ``launch`` is one key, whose value is the launch section."""
    table: dict[str, Key] = {}
    for section, section_type in section_types().items():
        if section == LAUNCH:
            table[LAUNCH] = Key(LAUNCH, LAUNCH, "", Config.model_fields[LAUNCH])
            continue
        for attribute, field in section_type.model_fields.items():
            name = _KEY_NAMES.get(attribute, attribute)
            assert name not in table, f"two sections have the key {name}"
            table[name] = Key(name, section, attribute, field)
    return table


def value_of(config: Config, name: str) -> Any:
    """The value that ``config`` holds for a top-level key."""
    key = keys()[name]
    section = getattr(config, key.section)
    return getattr(section, key.attribute) if key.attribute else section


def is_set(config: Config, name: str) -> bool:
    """Whether a top-level key was written (in the file or as a flag) rather than left at its default."""
    key = keys()[name]
    if not key.attribute:
        return bool(getattr(config, key.section).model_fields_set)
    return key.attribute in getattr(config, key.section).model_fields_set
