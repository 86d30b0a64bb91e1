"""Flags to values: every key of the config is a flag, nested ones with dots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ftl_config.axolotl import table
from ftl_config.errors import ConfigError
from ftl_config.keys import keys
from ftl_config.nodes import Items, Mapping, Node, Origin, Path, Scalar, path_text, plain_value
from ftl_config.parse import parse_flag_value
from ftl_config.report import Report
from ftl_config.shape import accepts, accepts_text, annotation_at, model_in
from ftl_config.suggest import closest


@dataclass(frozen=True, slots=True)
class _Flag:
    """One flag as typed: ``value`` is None when it stood alone."""

    text: str
    path: Path
    value: str | None


def apply_overrides(root: Mapping, argv: Sequence[str], report: Report) -> None:
    """Put the values of flags into a config's tree, in place; later flags win.

    Args:
        argv: ``--key value``, ``--key=value``, ``--key`` and ``--no-key`` for booleans, ``--a.b`` for what lies
            inside, ``--datasets.0.path`` for list entries. Values are YAML, so JSON too; keys of text take it as is.
    """
    for flag in _split_flags(argv, report):
        origin = Origin("flag", flag.text)
        annotation = _annotation(flag.path)
        if flag.value is None and not (accepts(annotation, bool) or annotation is Any):
            report.error(flag.path, "needs a value", f"write {flag.text} VALUE", origin=origin)
            continue
        node = _value_node(flag, annotation, origin, report)
        if node is not None:
            _put(root, flag.path, node, origin, report)


def _split_flags(argv: Sequence[str], report: Report) -> Iterator[_Flag]:
    position = 0
    while position < len(argv):
        word = argv[position]
        position += 1
        if not word.startswith("--") or word == "--":
            report.error((), f"unexpected argument {word!r}", "flags look like --key value", origin=Origin("flag"))
            continue
        text, has_value, value = word.partition("=")
        negated, path = _resolve(text)
        if path is None:
            _report_unknown(text, report)
            if not has_value and position < len(argv) and not argv[position].startswith("--"):
                position += 1
            continue
        if negated and has_value:
            report.error(path, f"{text} takes no value", origin=Origin("flag", text))
            continue
        if negated:
            yield _Flag(text, path, "false")
        elif has_value:
            yield _Flag(text, path, value)
        elif position < len(argv) and not argv[position].startswith("--"):
            yield _Flag(text, path, argv[position])
            position += 1
        else:
            yield _Flag(text, path, None)


def _resolve(text: str) -> tuple[bool, Path | None]:
    """(whether it is a ``--no-`` flag, path of the key it names or None)."""
    parts = text.removeprefix("--").split(".")
    head = parts[0].replace("-", "_")
    if _is_key(head):
        path = _path(head, parts[1:])
        positive = _without_no(path)
        return positive is not None, positive or path
    plain = head.removeprefix("no_")
    if plain != head and _is_key(plain):
        return True, _path(plain, parts[1:])
    return False, None


def _without_no(path: Path) -> Path | None:
    """``launch.autodown`` for ``launch.no_autodown``, where that is a key."""
    last = path[-1]
    if len(path) == 1 or not isinstance(last, str) or not last.startswith("no_"):
        return None
    model = model_in(_annotation(path[:-1]))
    plain = last.removeprefix("no_")
    is_positive = model is not None and last not in model.model_fields and plain in model.model_fields
    return (*path[:-1], plain) if is_positive else None


def _is_key(name: str) -> bool:
    return name in keys() or name in table()


def _path(head: str, rest: Sequence[str]) -> Path:
    """Dashes become underscores where the schema knows the name so; keys of free mappings stay as they are."""
    path: Path = (head,)
    for part in rest:
        model = model_in(_annotation(path))
        plain = part.replace("-", "_")
        if part.isdigit():
            path = (*path, int(part))
        elif model is not None:
            path = (*path, plain)
        else:
            path = (*path, part)
    return path


def _annotation(path: Path) -> Any:
    key = keys().get(str(path[0]))
    return annotation_at(key.annotation, path[1:]) if key is not None else Any


def _value_node(flag: _Flag, annotation: Any, origin: Origin, report: Report) -> Node | None:
    if flag.value is None:
        return Scalar("true", origin)
    if accepts_text(annotation) and not flag.value.lstrip().startswith(("[", "{")):
        return Scalar(flag.value, origin, plain=plain_value(flag.value) is None)
    try:
        return parse_flag_value(flag.value, flag.text)
    except ConfigError as error:
        if accepts(annotation, str):
            return Scalar(flag.value, origin, plain=False)
        report.error(flag.path, error.problems[0].message, "put the value in quotes", origin=origin)
        return None


def _put(root: Mapping, path: Path, node: Node, origin: Origin, report: Report) -> None:
    """Set what lies at a path. Containers on the way are copied: aliases share them with other places."""
    parent: Mapping | Items = root
    for position, part in enumerate(path[:-1]):
        child = _child(parent, part)
        if child is None or isinstance(child, Scalar):
            child = Items([], origin) if isinstance(path[position + 1], int) else Mapping({}, {}, origin)
        elif isinstance(child, Mapping):
            child = Mapping(dict(child.nodes), dict(child.origins), child.origin)
        else:
            child = Items(list(child.nodes), child.origin)
        if not _set(parent, part, child, origin):
            _report_no_entry(path[: position + 1], parent, origin, report)
            return
        parent = child
    if not _set(parent, path[-1], node, origin):
        _report_no_entry(path, parent, origin, report)


def _child(parent: Mapping | Items, part: str | int) -> Node | None:
    if isinstance(parent, Mapping):
        return parent.nodes.get(part)
    return parent.nodes[part] if isinstance(part, int) and part < len(parent.nodes) else None


def _set(parent: Mapping | Items, part: str | int, node: Node, origin: Origin) -> bool:
    if isinstance(parent, Mapping):
        already_there = part in parent.nodes and not isinstance(node, Scalar) and node.origin is not origin
        parent.nodes[part] = node
        if not already_there:
            parent.origins[part] = origin
        return True
    if not isinstance(part, int) or part > len(parent.nodes):
        return False
    if part == len(parent.nodes):
        parent.nodes.append(node)
    else:
        parent.nodes[part] = node
    return True


def _report_no_entry(path: Path, parent: Mapping | Items, origin: Origin, report: Report) -> None:
    size = len(parent.nodes)
    hint = f"entries count from 0; {size} would add one" if isinstance(path[-1], int) else "name an entry by its number"
    report.error(path, f"there is no entry {path[-1]} in {path_text(path[:-1])}", hint, origin=origin)


def _report_unknown(text: str, report: Report) -> None:
    name = text.removeprefix("--").split(".")[0].replace("-", "_")
    negated = name.startswith("no_")
    found = closest(name.removeprefix("no_") if negated else name, keys())
    hint = f"did you mean --{'no-' if negated else ''}{found.replace('_', '-')}?" if found else None
    report.error((), f"unknown flag {text}", hint, origin=Origin("flag"))
