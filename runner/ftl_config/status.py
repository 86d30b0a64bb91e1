"""Says what becomes of each key that was written, and drops those the schema has no field for."""

from __future__ import annotations

from typing import Any

from ftl_config.axolotl import (
    LEGACY_FSDP,
    PLUGINS,
    PREPARED_ONLY,
    TOLD_TOGETHER,
    Status,
    asks_for_nothing,
    table,
)
from ftl_config.keys import keys
from ftl_config.nodes import Items, Mapping, Path, origin_at, path_text, to_value
from ftl_config.report import Report
from ftl_config.schema.types import Section
from ftl_config.shape import alternatives, item_annotation, model_in, value_annotation
from ftl_config.suggest import did_you_mean

_DATASET_KEYS = ("datasets", "test_datasets", "pretraining_dataset")


def check_keys(root: Mapping, report: Report, *, allow_unknown: bool, statuses: bool, data_only: bool = False) -> None:
    """Report unknown, dead, refused and unsupported keys; remove from the tree what has no field.

    Args:
        statuses: False lets unsupported keys pass (tests of the schema alone).
        data_only: the data is to be prepared and nothing trained: keys of methods whose data is known pass.
    """
    checker = _Checker(report, allow_unknown, statuses, data_only)
    known = keys()
    for name in list(root.nodes):
        key = known.get(str(name))
        checker.check(root, (), name, str(name), key.default if key else None, known=key is not None)
        if key is not None and name in root.nodes:
            checker.below_unsupported = checker.refuses(table()[key.name])
            checker.check_below(root, (), name, key.annotation)
    if statuses:
        _check_plugins(root, report, checker.told_together)
    if checker.told_together:
        place = origin_at(root, next(iter(checker.told_together)))
        names = ", ".join(checker.told_together.values())
        report.warn((), f"these keys have no effect on results here: {names}", origin=place)


class _Checker:
    def __init__(self, report: Report, allow_unknown: bool, statuses: bool, data_only: bool) -> None:
        self.report, self.allow_unknown, self.statuses, self.data_only = report, allow_unknown, statuses, data_only
        self.below_unsupported = False
        """Inside a value that is refused as a whole: its parts need no word of their own."""
        self.told_together: dict[Path, str] = {}
        """Keys that are accepted and change no result, and what to call them."""

    def check(self, parent: Mapping, path: Path, name: str | int, dotted: str, default: Any, *, known: bool) -> None:
        """One key. Afterwards it is in the tree only if the schema has a field for it."""
        here = (*path, name)
        status = table().get(dotted)
        if status is None and not known:
            self.unknown(here, parent, did_you_mean(str(name), self.candidates(path)))
        elif status is not None:
            value = to_value(parent.nodes[name])
            if status.name == "dead":
                self.report.warn(here, "has no effect any more", status.text or None)
            elif status.name == "refused" and not asks_for_nothing(dotted, value):
                self.report.error(here, f"is refused: {status.text}")
            elif self.refuses(status) and self.statuses and not asks_for_nothing(dotted, value, default):
                if not (path and self.below_unsupported):
                    self.report.error(here, f"not yet supported: {status.text}")
            elif status.name == "accepted" and status.text and not asks_for_nothing(dotted, value, default):
                if status.text in TOLD_TOGETHER:
                    self.told_together[here] = path_text(here)
                else:
                    self.report.warn(here, f"has no effect here ({status.text})")
        if not known:
            _drop(parent, name)

    def refuses(self, status: Status) -> bool:
        """Whether a key with this status is not yet supported, for what is to be done."""
        return status.name == "unsupported" and not (self.data_only and status.text in PREPARED_ONLY)

    def candidates(self, path: Path) -> list[str]:
        if not path:
            return [name for name, status in table().items() if "." not in name and status.name != "dead"]
        return []

    def unknown(self, path: Path, parent: Mapping, hint: str | None) -> None:
        tell = self.report.warn if self.allow_unknown else self.report.error
        tell(path, "unknown key", hint)

    def check_below(self, parent: Mapping, path: Path, name: str | int, annotation: Any) -> None:
        """The keys inside a value, wherever the schema knows them."""
        node = parent.nodes[name]
        here = (*path, name)
        model = model_in(annotation)
        if isinstance(node, Items):
            inner = item_annotation(annotation)
            for index, item in enumerate(node.nodes):
                if isinstance(item, Mapping) and (item_model := model_in(inner)):
                    self.check_model(item, (*here, index), item_model)
        elif isinstance(node, Mapping) and model is not None:
            self.check_model(node, here, model)
        elif isinstance(node, Mapping) and any(model_in(part) for part in alternatives(value_annotation(annotation))):
            for key in list(node.nodes):
                self.check_below(node, here, key, value_annotation(annotation))

    def check_model(self, node: Mapping, path: Path, model: type[Section]) -> None:
        fields = model.model_fields
        for name in list(node.nodes):
            field = fields.get(str(name))
            if field is None and path == ("fsdp_config",) and name in LEGACY_FSDP:
                self.report.warn((*path, name), "belongs to the first FSDP", LEGACY_FSDP[str(name)])
                _drop(node, name)
                continue
            dotted = f"datasets.{name}" if path[0] in _DATASET_KEYS and len(path) == 2 else path_text((*path, name))
            if field is None and dotted not in table():
                self.unknown((*path, name), node, _hint(str(name), path, list(fields)))
                _drop(node, name)
                continue
            default = field.default if field else None
            self.check(node, path, name, dotted, default, known=field is not None)
            if field is not None and name in node.nodes:
                self.check_below(node, path, name, field.annotation)


def _hint(name: str, path: Path, fields: list[str]) -> str | None:
    if found := did_you_mean(name, fields):
        return found
    if name in keys():
        return f"`{name}` is a key of the whole config: write it without indentation"
    return f"known here: {', '.join(fields)}" if len(fields) <= 8 else None


def _check_plugins(root: Mapping, report: Report, told_together: dict[Path, str]) -> None:
    node = root.nodes.get("plugins")
    for index, item in enumerate(node.nodes if isinstance(node, Items) else []):
        name = to_value(item)
        status = PLUGINS.get(str(name))
        if status is None:
            report.error(("plugins", index), f"not yet supported: the plugin {name}", did_you_mean(str(name), PLUGINS))
        elif status.text in TOLD_TOGETHER:
            told_together["plugins", index] = str(name).rsplit(".", 1)[-1]
        elif status.name == "accepted":
            report.warn(("plugins", index), f"has no effect here ({status.text}): {str(name).rsplit('.', 1)[-1]}")


def _drop(parent: Mapping, name: str | int) -> None:
    parent.nodes.pop(name, None)
    parent.origins.pop(name, None)
