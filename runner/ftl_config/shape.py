"""What a field's annotation accepts: put into words, and used to read text the way it is meant."""

from __future__ import annotations

import re
import types
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt

from ftl_config.nodes import Items, Mapping, Node, Scalar, is_null, plain_value, scalar_value, to_value
from ftl_config.schema.types import Section

_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*\Z")


@cache
def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, without Annotated around them; (annotation,) for anything else."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return alternatives(get_args(annotation)[0])
    if origin is Union or origin is types.UnionType:
        return tuple(part for arg in get_args(annotation) for part in alternatives(arg))
    return (annotation,)


def accepts(annotation: Any, kind: Any) -> bool:
    """Whether one of the alternatives is exactly ``kind`` (str, bool, int, float, NoneType)."""
    return kind in alternatives(annotation)


def accepts_text(annotation: Any) -> bool:
    """Whether text is always meant as text: a number or `no` written there is not converted."""
    scalars = [part for part in alternatives(annotation) if part in (bool, int, float)]
    return accepts(annotation, str) and not scalars


def model_in(annotation: Any) -> type[Section] | None:
    """The section among the alternatives."""
    for part in alternatives(annotation):
        if isinstance(part, type) and issubclass(part, Section):
            return part
    return None


def item_annotation(annotation: Any) -> Any:
    """What a list's items are; Any for anything that has none."""
    for part in alternatives(annotation):
        if get_origin(part) is tuple:
            return get_args(part)[0]
    return Any


def value_annotation(annotation: Any) -> Any:
    """What a mapping's values are; Any for anything that has none."""
    for part in alternatives(annotation):
        if get_origin(part) is dict:
            return get_args(part)[1]
    return Any


def annotation_at(annotation: Any, path: tuple[str | int, ...]) -> Any:
    """The annotation of what lies below; Any where the schema says nothing."""
    for part in path:
        model = model_in(annotation)
        if isinstance(part, int):
            annotation = item_annotation(annotation)
            continue
        field = model.model_fields.get(part) if model else None
        annotation = field.annotation if field else value_annotation(annotation)
    return annotation


def read_node(node: Node, annotation: Any) -> Any:
    """The value of a node, where ``annotation`` decides what its text stands for.

    It converts no more than the text allows: `007` is text where text is wanted, "5" in quotes is a number where only
    numbers are. Whether the value fits is for validation to say.
    """
    if isinstance(node, Scalar):
        return _read_scalar(node, annotation)
    if isinstance(node, Items):
        item = item_annotation(annotation)
        return [read_node(child, item) for child in node.nodes]
    return _read_mapping(node, annotation)


def _read_mapping(node: Mapping, annotation: Any) -> dict[str | int, Any]:
    model = model_in(annotation)
    if model is None:
        inner = value_annotation(annotation)
        return {key: read_node(child, inner) for key, child in node.nodes.items()}
    values: dict[str | int, Any] = {}
    for key, child in node.nodes.items():
        field = model.model_fields.get(str(key))
        if field is None:
            values[key] = to_value(child)
        elif not (is_null(child) and not keeps_null(field.annotation, field.default)):
            values[key] = read_node(child, field.annotation)
    return values


def keeps_null(annotation: Any, default: Any) -> bool:
    """Whether null is a value of its own, rather than another way to leave the key out."""
    return default is not None and accepts(annotation, type(None))


def is_off(node: Node, annotation: Any) -> bool:
    """Whether a number that need not be given was given as `false`."""
    if not (isinstance(node, Scalar) and node.plain and plain_value(node.text) is False):
        return False
    kinds = alternatives(annotation)
    return type(None) in kinds and bool({int, float} & set(kinds)) and not {bool, str} & set(kinds)


def _read_scalar(node: Scalar, annotation: Any) -> Any:
    if annotation is Any or is_null(node) or (node.tag is not None and node.tag != "str"):
        return scalar_value(node)
    if node.text in _words(annotation):
        return node.text
    if accepts_text(annotation):
        value = scalar_value(node)
        return value if isinstance(value, bool) else node.text
    if not node.plain and not accepts(annotation, str) and _NUMBER.match(node.text):
        wants_number = accepts(annotation, int) or accepts(annotation, float)
        return plain_value(node.text.strip()) if wants_number else node.text
    return scalar_value(node)


@cache
def _words(annotation: Any) -> frozenset[str]:
    words: set[str] = set()
    for part in alternatives(annotation):
        if get_origin(part) is Literal:
            words.update(word for word in get_args(part) if isinstance(word, str))
    return frozenset(words)


def describe_type(annotation: Any, metadata: tuple[Any, ...] = ()) -> str:
    """In words: ``a whole number of at least 1``, ``true, false or auto``."""
    parts = _describe_parts(annotation, metadata)
    unique = list(dict.fromkeys(parts))
    return unique[0] if len(unique) == 1 else f"{', '.join(unique[:-1])} or {unique[-1]}"


def _describe_parts(annotation: Any, metadata: tuple[Any, ...]) -> list[str]:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _describe_parts(inner, (*metadata, *more))
    if origin is Union or origin is types.UnionType:
        return [
            text for arg in get_args(annotation) if arg is not type(None) for text in _describe_parts(arg, metadata)
        ]
    if origin is Literal:
        return [str(word) for word in get_args(annotation)]
    if annotation is bool:
        return ["true", "false"]
    if annotation in (int, float):
        return [("a whole number" if annotation is int else "a number") + _describe_bounds(metadata)]
    if origin is tuple:
        items = [arg for arg in get_args(annotation) if arg is not Ellipsis]
        return ["a list of " + _plural(items[0])]
    if origin is dict or annotation is dict:
        return ["a mapping"]
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return ["a mapping"]
    return ["text" if annotation is str else "any value"]


def _plural(annotation: Any) -> str:
    part = alternatives(annotation)[0]
    if part is str:
        return "texts"
    if part in (int, float):
        return "numbers"
    if get_origin(part) is tuple:
        return "lists"
    return "mappings"


def _describe_bounds(metadata: tuple[Any, ...]) -> str:
    low = high = ""
    for bound in metadata:
        if isinstance(bound, Ge):
            low = f"of at least {bound.ge}"
        elif isinstance(bound, Gt):
            low = f"above {bound.gt}"
        elif isinstance(bound, Le):
            high = f"at most {bound.le}"
        elif isinstance(bound, Lt):
            high = f"below {bound.lt}"
    text = " and ".join(bound for bound in (low, high) if bound)
    return f" {text}" if text else ""


def describe_value(value: Any) -> str:
    """A value as it was given, short, with its kind where that is the point."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value!r}"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = str(value)
    return f"the text {text if len(text) <= 60 else text[:57] + '...'!r}"
