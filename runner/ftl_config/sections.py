"""Flat values to sections, and pydantic's findings to sentences."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from ftl_config.keys import LAUNCH, Key, keys, section_types
from ftl_config.nodes import Mapping, Node, Path, Scalar, is_null
from ftl_config.report import Report
from ftl_config.schema.config import Config
from ftl_config.schema.types import Section
from ftl_config.shape import (
    describe_type,
    describe_value,
    is_off,
    item_annotation,
    keeps_null,
    model_in,
    read_node,
    value_annotation,
)

_EMPTY_TEXT_MATTERS = frozenset({"default_system_message"})


def read_values(root: Mapping) -> dict[str, dict[str, Any]]:
    """Section name to attribute to value, of what was written. Null means: not written, unless null is a value."""
    values: dict[str, dict[str, Any]] = {name: {} for name in section_types()}
    for name, node in root.nodes.items():
        key = keys()[str(name)]
        if _is_left_out(node, key):
            continue
        if key.name == LAUNCH:
            read = read_node(node, key.annotation)
            values[LAUNCH] = read if isinstance(read, dict) else {"": read}
        else:
            values[key.section][key.attribute] = read_node(node, key.annotation)
    return values


def _is_left_out(node: Node, key: Key) -> bool:
    """Whether a value is another way not to write the key: null, `""`, or `false` for a number."""
    if isinstance(node, Scalar) and not node.plain and not node.text and key.name not in _EMPTY_TEXT_MATTERS:
        return True
    if is_null(node):
        return not keeps_null(key.annotation, key.field.default)
    return is_off(node, key.annotation)


def build_config(root: Mapping, report: Report) -> Config:
    """The typed config. What does not fit its type is reported and left at its default."""
    values = read_values(root)
    if "" in values[LAUNCH]:
        report.error((LAUNCH,), f"expected a mapping, got {describe_value(values[LAUNCH].pop(''))}")
    with _without_plugins():
        sections = {name: _build_section(name, values[name], report) for name in section_types()}
    return Config.model_construct(**sections)  # type: ignore[arg-type]


@contextmanager
def _without_plugins() -> Iterator[None]:
    """pydantic looks through every installed package for plugins when it builds the first validator (30 ms here)."""
    name = "PYDANTIC_DISABLE_PLUGINS"
    before = os.environ.get(name)
    os.environ[name] = "__all__"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _build_section(name: str, values: dict[str, Any], report: Report) -> Section:
    section_type = section_types()[name]
    while values:
        try:
            return section_type.model_validate(values)
        except ValidationError as error:
            bad = _report_errors(section_type, name, values, error, report)
            values = {attribute: value for attribute, value in values.items() if attribute not in bad}
    return section_type.model_construct()


def _report_errors(
    section_type: type[Section], section: str, values: dict[str, Any], error: ValidationError, report: Report
) -> set[str]:
    """Report each wrong value once; the attributes they belong to."""
    found: dict[Path, str] = {}
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        path = _real_path(detail["loc"], values, is_missing=detail["type"] == "missing")
        found.setdefault(path, detail["type"])
    paths = [path for path in found if not any(other[: len(path)] == path != other for other in found)]
    names = {key.attribute: key.name for key in keys().values() if key.section == section}
    for path in paths:
        attribute = str(path[0])
        shown: Path = (LAUNCH, *path) if section == LAUNCH else (names[attribute], *path[1:])
        message = _message(section_type, values, path, found[path])
        report.error(shown, message, _hint(path, values))
    return {str(path[0]) for path in paths}


def _real_path(location: tuple[int | str, ...], values: Any, *, is_missing: bool) -> Path:
    """A pydantic location without the names of union members in it."""
    path: list[str | int] = []
    value = values
    for position, part in enumerate(location):
        children = dict(enumerate(value)) if isinstance(value, list) else value if isinstance(value, dict) else {}
        if part in children:
            value = children[part]
            path.append(part)
        elif is_missing and position == len(location) - 1:
            path.append(part)
    return tuple(path)


def _message(section_type: type[Section], values: dict[str, Any], path: Path, error_type: str) -> str:
    if error_type == "missing":
        return "is missing"
    value: Any = values
    for part in path:
        value = value[part]
    if error_type == "too_short" and not value:
        return "is an empty list; leave the key out or give at least one entry"
    annotation, metadata = _type_at(section_type, path)
    return f"expected {describe_type(annotation, metadata)}, got {describe_value(value)}"


def _hint(path: Path, values: dict[str, Any]) -> str | None:
    """What was probably meant, for mistakes that are seen often."""
    value = values.get(str(path[0]))
    if path == ("warmup_steps",) and isinstance(value, float) and value < 1:
        return f"a share of the steps goes into warmup_ratio: {value}"
    if path == ("tokens",) and isinstance(value, dict):
        return "tokens with a role go into special_tokens"
    if value is False and len(path) == 1:
        return "leave the key empty to switch it off, or put the word in quotes"
    return None


def _type_at(section_type: type[Section], path: Path) -> tuple[Any, tuple[Any, ...]]:
    """(annotation, constraints) of what lies at a path."""
    annotation: Any = section_type
    metadata: tuple[Any, ...] = ()
    for part in path:
        model = model_in(annotation)
        field = model.model_fields.get(str(part)) if model is not None and isinstance(part, str) else None
        if field is not None:
            annotation, metadata = field.annotation, tuple(field.metadata)
        else:
            metadata = ()
            annotation = item_annotation(annotation) if isinstance(part, int) else value_annotation(annotation)
    return annotation, metadata
