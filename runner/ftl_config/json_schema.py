"""JSON Schema of the YAML as users write it: flat keys, for editors that complete and check while one types."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ftl_config.axolotl import OTHER_LEGACY, RENAMED, Status, table
from ftl_config.field_docs import field_docs
from ftl_config.keys import LAUNCH, keys, section_types
from ftl_config.schema.types import Section

_NULL = {"type": "null"}


def config_schema() -> dict[str, Any]:
    """The schema: every known key with type, default, text and status; unknown keys are refused."""
    _, schema = models_json_schema([(model, "validation") for model in section_types().values()])
    definitions = schema["$defs"]
    _describe_fields(definitions)
    properties: dict[str, Any] = {}
    for name, key in keys().items():
        section = definitions[section_types()[key.section].__name__]
        if name == LAUNCH:
            properties[name] = {"anyOf": [{"$ref": f"#/$defs/{section_types()[LAUNCH].__name__}"}, _NULL]}
        else:
            properties[name] = _property(section["properties"][key.attribute], table()[name])
    for name, status in table().items():
        if name not in properties and "." not in name:
            properties[name] = {"description": status_text(name, status), "deprecated": True}
    flat = {section_types()[name].__name__ for name in section_types() if name != LAUNCH}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ftl config",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": {name: definition for name, definition in definitions.items() if name not in flat},
    }


def status_text(name: str, status: Status) -> str:
    """What becomes of a key, as a sentence; empty when it simply works."""
    if status.name == "unsupported":
        return f"Not yet supported: {status.text}."
    if status.name == "accepted":
        return f"No effect here ({status.text})." if status.text else "No effect here."
    if name in RENAMED or name in OTHER_LEGACY:
        return f"Old spelling: write {status.text}."
    if status.name in ("dead", "refused"):
        return f"No longer in use: {status.text}."
    return ""


def _property(definition: dict[str, Any], status: Status) -> dict[str, Any]:
    """A field's definition with null allowed (an empty key is a key left out) and its status said."""
    definition = dict(definition)
    text = status_text("", status)
    description = " ".join(part for part in (definition.pop("description", ""), text) if part)
    default = {"default": definition.pop("default")} if "default" in definition else {}
    definition.pop("title", None)
    options = definition.pop("anyOf", None) or [definition]
    if _NULL not in options:
        options = [*options, _NULL]
    deprecated = {"deprecated": True} if status.name == "unsupported" else {}
    return {"description": description, **default, "anyOf": options, **deprecated}


def _describe_fields(definitions: dict[str, Any]) -> None:
    for model in _all_models(Section):
        definition = definitions.get(model.__name__)
        if definition is None:
            continue
        for attribute, text in field_docs(model).items():
            if attribute in definition["properties"]:
                definition["properties"][attribute]["description"] = text


def _all_models(model: type[BaseModel]) -> list[type[Section]]:
    found: list[type[Section]] = []
    for child in model.__subclasses__():
        if issubclass(child, Section):
            found.extend([child, *_all_models(child)])
    return found
