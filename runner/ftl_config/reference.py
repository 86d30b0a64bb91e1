"""Writes docs/config-reference.md: ``python -m ftl_config.reference [FILE]``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftl_config.axolotl import OURS, Status, table
from ftl_config.field_docs import field_docs
from ftl_config.json_schema import status_text
from ftl_config.keys import LAUNCH, keys, section_types
from ftl_config.schema.config import Config
from ftl_config.schema.types import Section
from ftl_config.shape import alternatives, describe_type, item_annotation, model_in

TARGET = Path("docs/config-reference.md")

_INTRO = """\
# Config reference

Generated from the schema by `python -m ftl_config.reference`; do not edit.

A config is one YAML file with flat keys, named as Axolotl names them, and an optional `launch:` section. An empty value
is a key left out. Every key is also a flag: `--learning-rate 1e-4`, `--no-sample-packing`, `--launch.nodes=2`,
`--datasets.0.path data.jsonl`.

Status: **works**; *no effect*: accepted, and training computes the same without it; *not yet*: an error that names the
key, until it is supported; *old*: read as another spelling, with a warning.
"""

_LABELS = {
    "implemented": "**works**",
    "accepted": "*no effect*",
    "unsupported": "*not yet*",
    "renamed": "*old*",
    "dead": "*gone*",
    "refused": "*refused*",
}


def render_reference() -> str:
    """The whole reference as Markdown."""
    parts = [_INTRO]
    config_docs = field_docs(Config)
    for name, section in section_types().items():
        parts.append(f"## {name}\n\n{config_docs[name]}\n")
        prefix = "launch." if name == LAUNCH else ""
        parts.append(_table(_section_rows(name, prefix)))
        for path, model in _inner_models(section, prefix):
            parts.append(f"### {path}\n\n{_first_line(model)}\n")
            parts.append(_table(_model_rows(model, path)))
    parts.append("## Old and removed keys\n\nWhat old files carry, and what to write instead.\n")
    parts.append(_old_keys())
    return "\n".join(parts)


def _section_rows(section: str, prefix: str) -> Iterator[tuple[str, ...]]:
    docs = field_docs(section_types()[section])
    if section == LAUNCH:
        for attribute, field in section_types()[LAUNCH].model_fields.items():
            yield _row(f"{prefix}{attribute}", field, Status("implemented"), docs[attribute])
        return
    for key in keys().values():
        if key.section == section:
            yield _row(key.name, key.field, table()[key.name], docs[key.attribute])


def _model_rows(model: type[Section], path: str) -> Iterator[tuple[str, ...]]:
    docs = field_docs(model)
    parent = table().get(path.split(".")[0].removesuffix("[]"), Status("implemented"))
    for attribute, field in model.model_fields.items():
        own = table().get(f"datasets.{attribute}" if path == "datasets[]" else f"{path}.{attribute}")
        yield _row(attribute, field, own or parent, docs[attribute])


def _row(name: str, field: Any, status: Status, text: str) -> tuple[str, ...]:
    note = status_text(name, status)
    ours = " Ours." if name in OURS and "Ours." not in text else ""
    kind = describe_type(field.annotation, tuple(field.metadata))
    return f"`{name}`", kind, _default(field.default), _LABELS[status.name], f"{text}{ours} {note}".strip()


def _default(value: Any) -> str:
    if value is None or (not isinstance(value, bool | int | float | str | tuple)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"`[{', '.join(str(item) for item in value)}]`"
    return f"`{value}`" if value != "" else ""


def _table(rows: Iterator[tuple[str, ...]]) -> str:
    lines = ["| key | type | default | status | meaning |", "|---|---|---|---|---|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _inner_models(section: type[Section], prefix: str) -> Iterator[tuple[str, type[Section]]]:
    seen: set[type[Section]] = set()
    todo: list[tuple[str, Any]] = [(f"{prefix}{name}", f.annotation) for name, f in section.model_fields.items()]
    while todo:
        path, annotation = todo.pop(0)
        model = model_in(annotation)
        if model is None and any(model_in(part) for part in alternatives(item_annotation(annotation))):
            model, path = model_in(item_annotation(annotation)), f"{path}[]"
        if model is None or model in seen:
            continue
        seen.add(model)
        yield path, model
        todo.extend((f"{path}.{name}", field.annotation) for name, field in model.model_fields.items())


def _first_line(model: type[Section]) -> str:
    return (model.__doc__ or "").strip().split("\n")[0]


def _old_keys() -> str:
    lines = ["| key | status | what to do |", "|---|---|---|"]
    for name, status in sorted(table().items()):
        if status.name in ("renamed", "dead", "refused"):
            text = f"write `{status.text}`" if status.name == "renamed" else status.text or "leave it out"
            lines.append(f"| `{name}` | {_LABELS[status.name]} | {text} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Write the reference to the path given, or to its place in a checkout."""
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else TARGET
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(render_reference(), encoding="utf-8")


if __name__ == "__main__":
    main()
