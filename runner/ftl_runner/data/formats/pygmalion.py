"""Role-play conversations in the Pygmalion/Metharme layout."""

from __future__ import annotations

from collections.abc import Mapping

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import RowError
from ftl_runner.data.formats.registry import Format
from ftl_runner.data.messages import Segment, Segments
from ftl_runner.data.rows import Row, as_list, as_text, describe, require

_MARKERS = {"system": "<|system|>", "prompter": "<|user|>", "human": "<|user|>", "bot": "<|model|>"}


def pygmalion(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """conversations of role (system, human or prompter, bot) and value; the bot's turns are trained."""
    name = spec.field_messages or "conversations"

    def convert(row: Row) -> Segments:
        parts: list[Segment] = []
        for number, turn in enumerate(as_list(require(row, name), f"field {name!r}"), 1):
            if not isinstance(turn, Mapping):
                raise RowError(f"turn {number} is {describe(turn)}, not an object with role and value")
            role = str(turn.get("role"))
            if role not in _MARKERS:
                raise RowError(f"turn {number} has the unknown role {role!r}", f"known: {', '.join(_MARKERS)}")
            parts.append(Segment(_MARKERS[role], False))
            parts.append(Segment(as_text(turn.get("value"), f"value of turn {number}"), role == "bot"))
        return Segments(tuple(parts))

    return convert
