"""What a row becomes: a conversation, template-free segments of text, or tokens that are ready already.

Formats (``formats/``) produce these values, ``turns.py`` (conversations) and ``convert.py``
(segments) turn them into text with trained spans. Nothing downstream knows the shape of the user's rows.
Preference data has values of its own: a prompt with a better and a worse answer, with one judged answer, with judged
steps, or alone (``preference/convert.py`` takes these on).
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


@dataclass(frozen=True)
class Prompt:
    """What is to be answered: a conversation that a chat template writes, or text to the letter."""

    conversation: Conversation | None = None
    text: str = ""
    template: str | None = None
    """A shipped template that the format fixes; None leaves the choice to the config."""


Answer: TypeAlias = Message | str
"""An assistant message behind a conversation, or text behind text."""


@dataclass(frozen=True)
class Pair:
    """A prompt with a better and a worse answer (DPO and its kin, reward models)."""

    prompt: Prompt
    chosen: Answer
    rejected: Answer


@dataclass(frozen=True)
class Unpaired:
    """A prompt with one answer, which is good or not (KTO)."""

    prompt: Prompt
    completion: Answer
    good: bool


@dataclass(frozen=True)
class Steps:
    """A problem and the steps of a solution, each right or not (process reward models)."""

    prompt: str
    steps: tuple[str, ...]
    right: tuple[bool, ...]


@dataclass(frozen=True)
class Task:
    """A prompt that the model answers itself, with what reward functions are given beside it (GRPO)."""

    prompt: Prompt
    columns: Mapping[str, Any] = field(default_factory=dict)


Preference: TypeAlias = Pair | Unpaired | Steps | Task
