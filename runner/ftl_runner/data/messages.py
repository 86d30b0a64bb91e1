"""What a row becomes: a conversation, template-free segments of text, or tokens that are ready already.

Formats (``formats/``) produce these values, ``turns.py`` (conversations) and ``convert.py``
(segments) turn them into text with trained spans. Nothing downstream knows the shape of the user's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias


@dataclass(frozen=True)
class DetailSpan:
    """A part of a message's content, in characters, with its own wish to be trained. ``end`` is exclusive."""

    start: int
    end: int
    train: bool


@dataclass(frozen=True)
class Message:
    """One turn. ``fields`` is what the template sees (role and content included), in the row's own order."""

    role: str
    content: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    train: bool | None = None
    """The row's own word on this turn; None leaves it to ``roles_to_train``."""
    detail: tuple[DetailSpan, ...] | None = None
    thinking_key: str | None = None
    """Name of the field in ``fields`` that holds reasoning text, when there is any."""

    @property
    def has_tool_calls(self) -> bool:
        return bool(self.fields.get("tool_calls"))


@dataclass(frozen=True)
class Conversation:
    """Messages that a chat template writes."""

    messages: tuple[Message, ...]
    tools: tuple[Any, ...] | None = None
    template_kwargs: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Segment:
    """A piece of the final text, trained or not."""

    text: str
    train: bool


@dataclass(frozen=True)
class Segments:
    """Text that needs no chat template: prompts of the alpaca family, completions, raw segments."""

    parts: tuple[Segment, ...]
    add_bos: bool = True
    add_eos: bool = True
    splittable: bool = False
    """A plain document: may be cut into several rows, and a cut part is still worth training."""


@dataclass(frozen=True)
class TokenRow:
    """A row that arrives tokenized."""

    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


Example: TypeAlias = Conversation | Segments | TokenRow
