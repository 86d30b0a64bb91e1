"""Where each message's text stands in the rendered conversation, for any template, in one extra render.

The conversation is rendered twice: plainly, and with every content (and reasoning text) between two private-use
characters of its own. When the marked text without its marks equals the plain text byte for byte, the marks are
exact. A template that trims contents fails this check where a content begins or ends with whitespace; then the
marks go inside the whitespace, and what the template kept of it is measured. Contents that a template takes apart
(``content.split('</think>')``) stay unlocated; ``turns.py`` finds such turns by what surrounds them.

Measured against the alternatives: rendering each prefix of a conversation is quadratic in its length, and searching
for contents in the text finds the wrong place as soon as one content is part of another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ftl_runner.data.errors import RowError
from ftl_runner.data.messages import Conversation, Message

_BASE = 0x100000  # Supplementary Private Use Area-B: no text has a business there
_MARKS = re.compile("[\U00100000-\U0010fffd]")
_MAX_MESSAGES = 16_000
_MAX_TRIM_TRIES = 16

Render: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], str]
Cut: TypeAlias = tuple[int, int]
"""Where the marks stand in a content: characters left out before the first and behind the second."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Characters ``start`` to ``end`` of the text are ``field[offset:...]`` of a message."""

    start: int
    end: int
    offset: int
    """How many leading characters of the field the template dropped."""


@dataclass(frozen=True, slots=True)
class Located:
    """The plain text and, for each message, where its content and its reasoning stand."""

    text: str
    content: list[Piece | None]
    thinking: list[Piece | None]


def locate(conversation: Conversation, render: Render) -> Located:
    """Render a conversation and find its contents. Unlocated ones are None.

    Raises:
        RowError: the template refuses the conversation.
    """
    messages = conversation.messages
    text = render([message.fields for message in messages])
    nothing: list[Piece | None] = [None] * len(messages)
    if len(messages) > _MAX_MESSAGES or _MARKS.search(text):
        return Located(text, nothing, list(nothing))
    cuts = {key: (0, 0) for key in _markable(messages)}
    pieces = _try_marks(messages, cuts, render, text)
    if pieces is None:
        pieces = _locate_trimmed(messages, render, text)
    if pieces is None:
        pieces = _locate_one_by_one(messages, render, text)
    content, thinking = list(nothing), list(nothing)
    for (index, name), piece in pieces.items():
        (content if name == "content" else thinking)[index] = piece
    return Located(text, content, thinking)


_Key: TypeAlias = tuple[int, str]


def _markable(messages: Sequence[Message]) -> list[_Key]:
    # An empty content stays unmarked: templates ask `if message.content`, and a marked one would not be empty.
    keys: list[_Key] = [(index, "content") for index, message in enumerate(messages) if message.content.strip()]
    for index, message in enumerate(messages):
        if message.thinking_key and str(message.fields.get(message.thinking_key, "")).strip():
            keys.append((index, message.thinking_key))
    return keys


def _try_marks(
    messages: Sequence[Message], cuts: Mapping[_Key, Cut], render: Render, plain: str
) -> dict[_Key, Piece] | None:
    """The pieces, or None when the marks changed the text."""
    fields: list[Mapping[str, Any]] = [message.fields for message in messages]
    numbers: dict[int, tuple[_Key, int]] = {}
    for number, ((index, name), (front, back)) in enumerate(cuts.items()):
        value = str(fields[index][name])
        stop = len(value) - back
        first, second = chr(_BASE + 2 * number), chr(_BASE + 2 * number + 1)
        marked = f"{value[:front]}{first}{value[front:stop]}{second}{value[stop:]}"
        fields[index] = {**fields[index], name: marked}
        numbers[number] = ((index, name), front)
    try:
        text = render(fields)
    except RowError:
        return None
    return _read_marks(text, plain, numbers)


def _read_marks(text: str, plain: str, numbers: Mapping[int, tuple[_Key, int]]) -> dict[_Key, Piece] | None:
    if len(text) - len(plain) > 2 * len(numbers) or _MARKS.sub("", text) != plain:
        return None
    starts: dict[int, int] = {}
    pieces: dict[_Key, Piece] = {}
    for count, match in enumerate(_MARKS.finditer(text)):
        number, closing = divmod(ord(match.group()) - _BASE, 2)
        position = match.start() - count
        if not closing:
            if number in starts:
                return None
            starts[number] = position
            continue
        key, front = numbers[number]
        if number not in starts or key in pieces:
            return None
        pieces[key] = Piece(starts[number], position, front)
    return pieces if len(pieces) == len(starts) else None


def _locate_trimmed(messages: Sequence[Message], render: Render, plain: str) -> dict[_Key, Piece] | None:
    """The template trims: mark inside the outer whitespace, then measure what it kept of it."""
    cuts: dict[_Key, Cut] = {}
    for key in _markable(messages):
        value = str(messages[key[0]].fields[key[1]])
        cuts[key] = (len(value) - len(value.lstrip()), len(value) - len(value.rstrip()))
    pieces = _try_marks(messages, cuts, render, plain)
    if pieces is None:
        return None
    for key in list(pieces):
        value = str(messages[key[0]].fields[key[1]])
        piece, (front, back) = pieces[key], cuts[key]
        kept_front = _common_suffix(plain[: piece.start], value[:front])
        kept_back = _common_prefix(plain[piece.end : piece.end + back], value[len(value) - back :]) if back else 0
        if kept_front:
            cuts[key] = _widest(
                messages, cuts, key, [(front - n, back) for n in range(kept_front, 0, -1)], render, plain
            )
        if kept_back:
            front = cuts[key][0]
            tries = [(front, back - n) for n in range(kept_back, 0, -1)]
            cuts[key] = _widest(messages, cuts, key, tries, render, plain)
    return _try_marks(messages, cuts, render, plain)


def _widest(
    messages: Sequence[Message], cuts: Mapping[_Key, Cut], key: _Key, tries: Sequence[Cut], render: Render, plain: str
) -> Cut:
    """The first cut that leaves the text unchanged: marks stop a trim, so it cannot reach into kept whitespace."""
    for cut in tries[:_MAX_TRIM_TRIES]:
        if _try_marks(messages, {**cuts, key: cut}, render, plain) is not None:
            return cut
    return cuts[key]


def _locate_one_by_one(messages: Sequence[Message], render: Render, plain: str) -> dict[_Key, Piece]:
    """Mark only what can be marked: rare, and one render a message."""
    cuts: dict[_Key, Cut] = {}
    for key in _markable(messages):
        value = str(messages[key[0]].fields[key[1]])
        inner = (len(value) - len(value.lstrip()), len(value) - len(value.rstrip()))
        for cut in dict.fromkeys(((0, 0), inner)):
            if _try_marks(messages, {key: cut}, render, plain) is not None:
                cuts[key] = cut
                break
    return _try_marks(messages, cuts, render, plain) or {}


def _common_suffix(text: str, whitespace: str) -> int:
    """How many last characters of ``text`` are last characters of ``whitespace`` too."""
    count = 0
    while count < min(len(text), len(whitespace)) and text[-1 - count] == whitespace[-1 - count]:
        count += 1
    return count


def _common_prefix(text: str, whitespace: str) -> int:
    count = 0
    while count < min(len(text), len(whitespace)) and text[count] == whitespace[count]:
        count += 1
    return count
