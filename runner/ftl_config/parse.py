"""YAML text to nodes, with every pitfall of YAML named rather than met.

The tree is built from libyaml's events by hand: PyYAML's own composer recurses in C (a deeply nested file ends the
process), lets a later key silently replace an earlier one, and expands aliases without limit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from ftl_config.errors import ConfigError, Problem
from ftl_config.nodes import Items, Mapping, Node, Origin, Scalar, plain_value

MAX_BYTES = 1 << 20
"""A config is written by hand; the largest that Axolotl ships has 4 KiB."""
MAX_DEPTH = 40
MAX_NODES = 50_000
"""Counted after aliases are expanded."""

_ELLIPSIS = re.compile(r"^([ \t]*)\.\.\.[ \t]*$", re.MULTILINE)
_TAG_PREFIX = "tag:yaml.org,2002:"
_TAGS = frozenset({"str", "int", "float", "bool", "null", "map", "seq", "merge"})
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Stop(Exception):
    """Ends parsing: the text cannot be made sense of beyond this point."""

    def __init__(self, message: str, mark: Any = None, hint: str | None = None) -> None:
        self.message, self.mark, self.hint = message, mark, hint


def parse_yaml(text: str, name: str) -> tuple[Mapping, list[Problem]]:
    """The top-level mapping of a config, and the keys in it that stand twice (the first one counts).

    Raises:
        ConfigError: the text is no YAML mapping; with duplicate keys up to there.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigError([Problem("error", "", f"the file is larger than {MAX_BYTES >> 10} KiB", file=name)])
    builder = _Builder(text, name)
    try:
        return builder.document(), builder.problems
    except _Stop as stop:
        builder.report(stop.message, stop.mark, stop.hint)
    except yaml.YAMLError as error:
        if _ELLIPSIS.search(text):
            return _parse_without_ellipses(text, name)
        builder.report_yaml_error(error)
    raise ConfigError(builder.problems)


def _parse_without_ellipses(text: str, name: str) -> tuple[Mapping, list[Problem]]:
    """Documentation writes ``...`` for lines it leaves out; in YAML it ends the document, or is an error."""
    root, problems = parse_yaml(_ELLIPSIS.sub(r"\1# left out", text), name)
    line = text[: _ELLIPSIS.search(text).end()].count("\n") + 1  # type: ignore[union-attr]
    return root, [*problems, Problem("warning", "", "`...` is not YAML; the line is left out", None, name, line)]


def parse_flag_value(text: str, flag: str) -> Node:
    """A value given on the command line: YAML (so JSON too) on one line."""
    builder = _Builder(text, flag, origin=Origin("flag", flag))
    try:
        return builder.value()
    except _Stop as stop:
        reason = stop.message
    except yaml.YAMLError as error:
        reason = str(getattr(error, "problem", None) or error)
    problem = Problem("error", "", f"cannot read {text!r} as a YAML value: {reason}", file=flag)
    raise ConfigError([problem])


class _Builder:
    """Makes nodes from parser events. One a text."""

    def __init__(self, text: str, name: str, origin: Origin | None = None) -> None:
        self.text, self.name, self.fixed_origin = text, name, origin
        self.problems: list[Problem] = []
        self.anchors: dict[str, Node] = {}
        self.num_nodes = 0

    def events(self) -> Iterator[Any]:
        loader = _Loader(self.text)
        try:
            while loader.check_event():
                yield loader.get_event()
        finally:
            loader.dispose()

    def document(self) -> Mapping:
        events = self.events()
        node = self.first_document(events)
        if node is None or (isinstance(node, Scalar) and node.plain and not node.text):
            raise _Stop("the config is empty", None, "the least it needs is base_model, datasets and learning_rate")
        if isinstance(node, Items):
            raise _Stop("the config is a list; it must be a mapping of keys to values", None, _top_level_hint(node))
        if isinstance(node, Scalar):
            shown = node.text if len(node.text) <= 40 else node.text[:40] + "..."
            hint = _yaml_hint(node.text, "")
            raise _Stop(f"the config is just the text {shown!r}; it must be lines of `key: value`", hint=hint)
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise _Stop("a second document starts here (`---`)", event.start_mark, "one config a file")
        return node

    def value(self) -> Node:
        node = self.first_document(self.events())
        assert self.fixed_origin is not None
        return Scalar("", self.fixed_origin) if node is None else node

    def first_document(self, events: Iterator[Any]) -> Node | None:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                node = self.node(next(events), events, 0)
                next(events)  # the document's end
                return node
        return None

    def node(self, event: Any, events: Iterator[Any], depth: int) -> Node:
        if depth > MAX_DEPTH:
            raise _Stop(f"nested more than {MAX_DEPTH} levels deep", event.start_mark)
        if isinstance(event, yaml.AliasEvent):
            return self.alias(event)
        self.count(1, event)
        origin = self.origin(event)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            node = Scalar(event.value, origin, plain=not event.style, tag=self.tag(event))
        elif isinstance(event, yaml.SequenceStartEvent):
            self.tag(event)
            node = Items([], origin)
            while not isinstance(item := next(events), yaml.SequenceEndEvent):
                node.nodes.append(self.node(item, events, depth + 1))
        else:
            self.tag(event)
            node = Mapping({}, {}, origin)
            self.fill_mapping(node, events, depth)
        if event.anchor:
            self.anchors[event.anchor] = node
        return node

    def fill_mapping(self, node: Mapping, events: Iterator[Any], depth: int) -> None:
        merged: list[tuple[Node, Any]] = []
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key_node = self.node(event, events, depth + 1)
            value = self.node(next(events), events, depth + 1)
            if not isinstance(key_node, Scalar):
                raise _Stop("a key must be a word, not a list or a mapping", event.start_mark)
            if key_node.plain and key_node.text == "<<":
                merged.append((value, event.start_mark))
                continue
            key = _key(key_node)
            if key in node.nodes:
                self.duplicate(key, node.origins[key], event)
                continue
            node.nodes[key], node.origins[key] = value, key_node.origin
        for value, mark in merged:
            self.merge(node, value, mark)

    def merge(self, node: Mapping, value: Node, mark: Any) -> None:
        for source in value.nodes if isinstance(value, Items) else [value]:
            if not isinstance(source, Mapping):
                raise _Stop("`<<` needs a mapping (an alias such as `*name`)", mark)
            for key, item in source.nodes.items():
                if key not in node.nodes:
                    node.nodes[key], node.origins[key] = item, source.origins[key]

    def alias(self, event: Any) -> Node:
        if event.anchor not in self.anchors:
            raise _Stop(f"`*{event.anchor}` has no `&{event.anchor}` before it", event.start_mark)
        node = self.anchors[event.anchor]
        self.count(_size(node), event)
        return node

    def count(self, num_nodes: int, event: Any) -> None:
        self.num_nodes += num_nodes
        if self.num_nodes > MAX_NODES:
            raise _Stop(f"more than {MAX_NODES} values once aliases are expanded", event.start_mark)

    def tag(self, event: Any) -> str | None:
        if not event.tag or event.tag == "!":
            return "str" if event.tag == "!" else None
        name = str(event.tag).removeprefix(_TAG_PREFIX)
        if name not in _TAGS:
            raise _Stop(f"the tag {event.tag!r} is not known", event.start_mark, "write the value without a tag")
        return name

    def origin(self, event: Any) -> Origin:
        if self.fixed_origin is not None:
            return self.fixed_origin
        mark = event.start_mark
        return Origin("file", self.name, mark.line + 1, mark.column + 1)

    def duplicate(self, key: str | int, first: Origin, event: Any) -> None:
        message = f"this key stands twice: first on line {first.line}, again on line {event.start_mark.line + 1}"
        mark = event.start_mark
        self.problems.append(
            Problem("error", str(key), message, "keep one of the two", self.name, mark.line + 1, mark.column + 1)
        )

    def report(self, message: str, mark: Any, hint: str | None = None) -> None:
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (None, None)
        self.problems.append(Problem("error", "", message, hint, self.name, line, column))

    def report_yaml_error(self, error: yaml.YAMLError) -> None:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        if "could not find expected ':'" in str(error):
            mark = getattr(error, "context_mark", None) or mark  # where the key began, not where the next line did
        line = self.line_text(mark)
        if line[: len(line) - len(line.lstrip())].find("\t") >= 0 or "'\\t'" in str(error):
            self.report(
                "a tab is used for indentation; YAML allows only spaces", mark, "replace each tab by two spaces"
            )
            return
        problem = getattr(error, "problem", None) or str(error)
        context = getattr(error, "context", None)
        self.report(f"not valid YAML: {problem}{f' ({context})' if context else ''}", mark, _yaml_hint(line, problem))

    def line_text(self, mark: Any) -> str:
        lines = self.text.split("\n")
        return lines[mark.line] if mark is not None and mark.line < len(lines) else ""


def _key(node: Scalar) -> str | int:
    value = plain_value(node.text) if node.plain else node.text
    return value if isinstance(value, int) and not isinstance(value, bool) else node.text


def _size(node: Node) -> int:
    """Number of nodes below, this one included."""
    if isinstance(node, Scalar):
        return 1
    children = node.nodes.values() if isinstance(node, Mapping) else node.nodes
    return 1 + sum(_size(child) for child in children)


def _top_level_hint(node: Items) -> str | None:
    looks_like_datasets = node.nodes and isinstance(node.nodes[0], Mapping) and "path" in node.nodes[0].nodes
    return "put these entries below a `datasets:` line" if looks_like_datasets else None


def _yaml_hint(line: str, problem: str) -> str | None:
    if re.match(r"\s*[\w-]+:\S", line) and "://" not in line:
        return "a space is missing after the colon"
    if "mapping values are not allowed" in problem:
        return "check the indentation, and put text that contains `: ` in quotes"
    if re.search(r":\s+[@`%{\[*&!|>]", line):
        return "text that starts with a special character needs quotes"
    return None
