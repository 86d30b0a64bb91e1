"""The config as a tree of nodes: what was written, and where.

Values stay text until the schema says what they are to be, so that ``wandb_name: 007`` keeps its zeros and
``eval_strategy: no`` is the word, not the boolean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass
from typing import Any, Literal

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value comes from: the default, a line of the file, or a flag."""

    kind: Literal["default", "file", "flag"]
    source: str = ""
    """Name of the file, or the flag as it was typed."""
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        if self.kind == "default":
            return "default"
        return self.source if self.line is None else f"{self.source}:{self.line}"


DEFAULT = Origin("default")


@dataclass(slots=True)
class Scalar:
    """A single value. ``plain`` is false for quoted and block text, which is always a string."""

    text: str
    origin: Origin
    plain: bool = True
    tag: str | None = None


@dataclass(slots=True)
class Items:
    """A list."""

    nodes: list[Node]
    origin: Origin


@dataclass(slots=True)
class Mapping:
    """A mapping; ``origins`` holds where each key stands."""

    nodes: dict[str | int, Node]
    origins: dict[str | int, Origin]
    origin: Origin


Node = Scalar | Items | Mapping

_BOOLEANS = {word: value for value, words in ((True, "true yes on"), (False, "false no off")) for word in words.split()}
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*\Z")
_RADIX = re.compile(r"0x[0-9a-fA-F]+\Z|0o[0-7]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_SPECIAL = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}


def is_null(node: Node) -> bool:
    """Whether a node stands for nothing: an empty value, `~` or `null`."""
    return isinstance(node, Scalar) and node.plain and node.tag is None and node.text in _NULLS


def plain_value(text: str) -> str | int | float | bool | None:
    """What unquoted text means.

    Booleans as in YAML 1.1 (``yes``, ``off``: what Axolotl's files use), numbers as in YAML 1.2 (``2e-4`` is a number,
    ``1:30`` is not); dates stay text.
    """
    if text in _NULLS:
        return None
    if (boolean := _BOOLEANS.get(text.lower())) is not None:
        return boolean if text in (text.lower(), text.upper(), text.capitalize()) else text
    if _INTEGER.match(text):
        return int(text.replace("_", ""))
    if _RADIX.match(text):
        return int(text, 0)
    if _FLOAT.match(text):
        return float(text.replace("_", ""))
    special = _SPECIAL.get(text.lower())
    return float(special) if special else text


def scalar_value(node: Scalar) -> str | int | float | bool | None:
    """The value of a scalar on its own, without a schema's say."""
    if node.tag == "str" or (not node.plain and node.tag is None):
        return node.text
    return plain_value(node.text)


def to_value(node: Node) -> Any:
    """The tree as plain dicts, lists and scalars."""
    if isinstance(node, Scalar):
        return scalar_value(node)
    if isinstance(node, Items):
        return [to_value(item) for item in node.nodes]
    return {key: to_value(item) for key, item in node.nodes.items()}


def from_value(value: Any, origin: Origin) -> Node:
    """A tree that stands for ``value``; every node of it has the same origin."""
    if isinstance(value, dict):
        return Mapping(
            {key: from_value(item, origin) for key, item in value.items()}, dict.fromkeys(value, origin), origin
        )
    if isinstance(value, list | tuple):
        return Items([from_value(item, origin) for item in value], origin)
    if isinstance(value, str):
        return Scalar(value, origin, plain=False)
    if value is None or isinstance(value, bool):
        return Scalar({None: "null", True: "true", False: "false"}[value], origin)
    return Scalar(repr(value), origin)


def origin_at(root: Mapping, path: SequenceOf[str | int]) -> Origin:
    """Where the thing at ``path`` stands: its key, or the nearest thing around it that was written."""
    node: Node = root
    origin = root.origin
    for part in path:
        if isinstance(node, Mapping) and part in node.nodes:
            origin, node = node.origins[part], node.nodes[part]
        elif isinstance(node, Items) and isinstance(part, int) and part < len(node.nodes):
            node = node.nodes[part]
            origin = node.origin
        else:
            break
    return origin


def path_text(path: SequenceOf[str | int]) -> str:
    """``datasets[0].type``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
