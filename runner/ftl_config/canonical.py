"""A config as plain values: for the digest that names it, and for the file that goes along with a run."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from ftl_config.keys import LAUNCH, keys
from ftl_config.nodes import plain_value

if TYPE_CHECKING:
    from ftl_config.schema.config import Config
    from ftl_config.schema.types import Section


def canonical_values(config: Config) -> dict[str, Any]:
    """Top-level key to plain value, of the keys that were set, in the order of the schema."""
    values: dict[str, Any] = {}
    dumped = {name: _dump(getattr(config, name)) for name in type(config).model_fields}
    for name, key in keys().items():
        if name == LAUNCH:
            if dumped[LAUNCH]:
                values[LAUNCH] = dumped[LAUNCH]
        elif key.attribute in dumped[key.section]:
            values[name] = dumped[key.section][key.attribute]
    return values


def digest_of(config: Config) -> str:
    """SHA-256 of the values that were set, without the launch section: where a run runs is not what it computes."""
    values = canonical_values(config)
    values.pop(LAUNCH, None)
    text = json.dumps(_text_keys(values), sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _text_keys(value: Any) -> Any:
    """Keys as JSON has them: numbers beside words (``max_memory``) cannot be sorted."""
    if isinstance(value, dict):
        return {str(key): _text_keys(item) for key, item in value.items()}
    return [_text_keys(item) for item in value] if isinstance(value, list | tuple) else value


def to_yaml(values: dict[str, Any]) -> str:
    """YAML that this package reads back to the same values."""
    import yaml

    class Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
        def ignore_aliases(self, data: Any) -> bool:
            return True

    def represent_text(dumper: Any, text: str) -> Any:
        style = "|" if "\n" in text.strip() else None if isinstance(plain_value(text), str) else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)

    Dumper.add_representer(str, represent_text)
    return str(yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120))


def _dump(section: Section) -> dict[str, Any]:
    # Asking an empty section would build its serializer, for nothing.
    return dict(_plain(section.model_dump(exclude_unset=True))) if section.model_fields_set else {}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
