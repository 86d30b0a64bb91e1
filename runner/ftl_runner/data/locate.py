"""Where each message's text stands in the rendered conversation, for any template, in one extra render.

The conversation is rendered twice: plainly, and with every content, reasoning text and argument of a tool call
between two private-use characters of its own. When the marked text without its marks equals the plain text byte for
byte, the marks are exact. A template that trims contents fails this check where a content begins or ends with
whitespace; then the marks go inside the whitespace, and what the template kept of it is measured. Of a content that a
template takes apart (``content.split('</think>')``) one mark may be lost: the other still says where it ends.

The number of renders does not grow with the conversation: two mostly, and a fixed budget where a template looks at
the contents. Measured against the alternatives: rendering each prefix of a conversation is quadratic in its length,
and searching for contents in the text finds the wrong place as soon as one content is part of another.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from ftl_runner.data.errors import RowError
from ftl_runner.data.messages import Conversation, Message

_PRIVATE_A, _PRIVATE_B, _LAST = 0xF0000, 0x100000, 0x10FFFD  # private use: no text has a business there
_MARKS = re.compile(f"[{chr(_PRIVATE_B)}-{chr(_LAST)}]")
_RENDER_BUDGET = 24
_STRIPPED = ("", "\n", " ", "\n ", "\n \t\r")
"""What templates strip, from nothing to everything: tried in this order."""
_CALLS = "tool_calls"

Render: TypeAlias = Callable[[Sequence[Mapping[str, Any]]], str]
Key: TypeAlias = tuple[int, str, int]
"""Message, name of the field, and, of tool calls, which text in them."""
Cut: TypeAlias = tuple[int, int]
"""Where the marks stand in a value: characters left out before the first and behind the second."""


class Piece(NamedTuple):
    """Characters ``start`` to ``end`` of the text are ``field[offset:...]`` of a message."""

    start: int
    end: int
    offset: int
    """How many leading characters of the field the template dropped."""


class Extent(NamedTuple):
    """Where a message's own text begins and ends, as far as marks tell: from the first to the last of them."""

    start: int
    end: int
    opened: bool
    """The first mark is one that opens: no text of the message stands before it."""
    closed: bool
    called: bool
    """A tool call of the message was found."""


@dataclass(frozen=True, slots=True)
class Located:
    """The plain text and, for each message, where its content, its reasoning and all of it stand."""

    text: str
    content: list[Piece | None]
    thinking: list[Piece | None]
    extents: list[Extent | None]


def locate(conversation: Conversation, render: Render) -> Located:
    """Render a conversation and find its contents. Unlocated ones are None.

    Raises:
        RowError: the template refuses the conversation.
    """
    messages = conversation.messages
    text = render([message.fields for message in messages])
    found = _find_marks(messages, render, text)
    located = Located(text, [None] * len(messages), [None] * len(messages), [None] * len(messages))
    for (index, name, _), (start, end, offset) in found.items():
        called = name == _CALLS
        if start is not None and end is not None and not called:
            (located.content if name == "content" else located.thinking)[index] = Piece(start, end, offset)
        first, last = (start, end) if start is not None and end is not None else (start or end or 0,) * 2
        extent = Extent(first, last, start is not None, end is not None, called)
        known = located.extents[index]
        located.extents[index] = extent if known is None else _united(known, extent)
    return located


def _united(one: Extent, other: Extent) -> Extent:
    head, tail = min(one, other, key=lambda extent: extent.start), max(one, other, key=lambda extent: extent.end)
    return Extent(head.start, tail.end, head.opened, tail.closed, one.called or other.called)


@dataclass
class _Marker:
    """Renders with marks; ``budget`` counts down."""

    messages: Sequence[Message]
    render: Render
    plain: str
    first: int
    pattern: re.Pattern[str]
    budget: int = _RENDER_BUDGET
    numbers: dict[Key, int] = field(default_factory=dict)

    def attempt(self, cuts: Mapping[Key, Cut]) -> _Found | None:
        """The places of the marks, or None when they changed the text."""
        if self.budget <= 0:
            return None
        self.budget -= 1
        fields: list[Mapping[str, Any]] = [message.fields for message in self.messages]
        keys = list(cuts)
        calls: dict[int, dict[int, int]] = {}
        for number, ((index, name, leaf), cut) in enumerate(cuts.items()):
            if name == _CALLS:
                calls.setdefault(index, {})[leaf] = number
            else:
                fields[index] = {**fields[index], name: self._marked(str(fields[index][name]), number, cut)}
        for index, leaves in calls.items():
            marked = _map_texts(
                fields[index][_CALLS],
                lambda text, leaf, leaves=leaves: (  # type: ignore[misc]
                    self._marked(text, leaves[leaf], (0, 0)) if leaf in leaves else text
                ),
            )
            fields[index] = {**fields[index], _CALLS: marked}
        try:
            text = self.render(fields)
        except RowError:
            return None
        return self._read(text, keys, cuts)

    def _marked(self, value: str, number: int, cut: Cut) -> str:
        front, stop = cut[0], len(value) - cut[1]
        first, second = chr(self.first + 2 * number), chr(self.first + 2 * number + 1)
        return f"{value[:front]}{first}{value[front:stop]}{second}{value[stop:]}"

    def _read(self, text: str, keys: Sequence[Key], cuts: Mapping[Key, Cut]) -> _Found | None:
        if self.pattern.sub("", text) != self.plain:
            return None
        at = [match.start() for match in self.pattern.finditer(text)]
        if [ord(text[place]) - self.first for place in at] == list(range(2 * len(keys))):  # all of them, in order
            pairs = zip(at[::2], at[1::2], strict=True)
            return {
                key: (start - 2 * number, end - 2 * number - 1, cuts[key][0])
                for number, (key, (start, end)) in enumerate(zip(keys, pairs, strict=True))
            }
        places: dict[Key, list[int | None]] = {}
        spoilt: set[Key] = set()
        for count, place in enumerate(at):
            number, closing = divmod(ord(text[place]) - self.first, 2)
            pair = places.setdefault(keys[number], [None, None])
            if pair[closing] is not None:  # the template writes the value twice
                spoilt.add(keys[number])
            pair[closing] = place - count
        return {
            key: (start, end, cuts[key][0])
            for key, (start, end) in places.items()
            if key not in spoilt and (start is None or end is None or start <= end)
        }


_Found: TypeAlias = dict[Key, tuple[int | None, int | None, int]]
"""Where the value begins and ends in the text, None for a lost mark, and the cut in front of it."""


def _find_marks(messages: Sequence[Message], render: Render, plain: str) -> _Found:
    values = dict(_markable(messages))
    if not values:
        return {}
    block = _free_block(plain, 2 * len(values))
    if block is None:
        return {}
    marker = _Marker(messages, render, plain, *block)
    whole = dict.fromkeys(values, (0, 0))
    found = marker.attempt(whole)
    if found is not None:
        return found
    inner = {key: _outer_whitespace(value) for key, value in values.items()}
    found = marker.attempt(inner) if inner != whole else None
    cuts: Mapping[Key, Cut] = inner
    if found is None:
        cuts = _working(marker, messages, (whole, inner))
        found = marker.attempt(cuts)
    if found is None:
        return {}
    return _widen(marker, messages, values, cuts, found)


def _markable(messages: Sequence[Message]) -> Iterator[tuple[Key, str]]:
    # An empty content stays unmarked: templates ask `if message.content`, and a marked one would not be empty.
    for index, message in enumerate(messages):
        if message.content.strip():
            yield (index, "content", 0), message.content
        if message.thinking_key and str(message.fields.get(message.thinking_key, "")).strip():
            yield (index, message.thinking_key, 0), str(message.fields[message.thinking_key])
        if message.has_tool_calls:
            texts: dict[int, str] = {}
            _map_texts(message.fields[_CALLS], lambda text, leaf, texts=texts: texts.setdefault(leaf, text))  # type: ignore[misc]
            for leaf, text in texts.items():
                yield (index, _CALLS, leaf), text


def _map_texts(calls: Any, change: Callable[[str, int], str]) -> Any:
    """Tool calls with the names of functions and the texts of their arguments changed; these are numbered."""
    count = iter(range(1 << 30))

    def inside(value: Any) -> Any:
        if isinstance(value, str):
            return change(value, next(count)) if value.strip() else value
        if isinstance(value, Mapping):
            return {key: inside(item) for key, item in value.items()}
        return [inside(item) for item in value] if isinstance(value, list | tuple) else value

    def one(call: Any) -> Any:
        if not isinstance(call, Mapping):
            return call
        names = [name for name in ("function", "name", "arguments") if name in call]
        return {**call, **{name: inside(call[name]) for name in names}}

    return [one(call) for call in calls] if isinstance(calls, list | tuple) else calls


def _free_block(text: str, size: int) -> tuple[int, re.Pattern[str]] | None:
    """The first of ``size`` characters that the text has none of, and a pattern of them."""
    if size <= _LAST + 1 - _PRIVATE_B and (text.isascii() or not _MARKS.search(text)):
        return _PRIVATE_B, _MARKS
    for first in range(_PRIVATE_A, _LAST + 2 - size, size):
        pattern = re.compile(f"[{chr(first)}-{chr(first + size - 1)}]")
        if not pattern.search(text):
            return first, pattern
    return None


def _outer_whitespace(value: str) -> Cut:
    return len(value) - len(value.lstrip()), len(value) - len(value.rstrip())


def _working(marker: _Marker, messages: Sequence[Message], tries: Sequence[Mapping[Key, Cut]]) -> dict[Key, Cut]:
    """Marks that leave the text as it is: whole classes of values, else halves of them, while the budget lasts."""
    working: dict[Key, Cut] = {}
    queue = list(_classes(messages, tries[0]).values())
    while queue:
        keys = queue.pop(0)
        for cuts in tries:
            chosen = {key: cuts[key] for key in keys}
            if marker.budget > 2 and marker.attempt(chosen) is not None:
                working.update(chosen)
                break
        else:
            if len(keys) > 1:
                half = len(keys) // 2
                queue += [keys[:half], keys[half:]]
    return working


def _classes(messages: Sequence[Message], keys: Mapping[Key, Any]) -> dict[tuple[str, str], list[Key]]:
    """Values that a template treats alike: those of one field of one role."""
    classes: dict[tuple[str, str], list[Key]] = {}
    for key in keys:
        classes.setdefault((messages[key[0]].role, key[1]), []).append(key)
    return classes


def _widen(
    marker: _Marker, messages: Sequence[Message], values: Mapping[Key, str], cuts: Mapping[Key, Cut], found: _Found
) -> _Found:
    """Move marks outwards over the whitespace that the template kept; each class of values by itself.

    What stands beside a mark tells how much may have been kept, but it may be the template's own. A mark stops a
    trim, so marks that leave the text unchanged do not reach into whitespace that is trimmed.
    """
    best = dict(cuts)
    for keys in _classes(messages, cuts).values():
        for side in (0, 1):
            kept = {key: n for key in keys if (n := _kept(marker.plain, values[key], cuts[key], found.get(key), side))}
            for stripped in _STRIPPED if kept else ():
                trial = {
                    **best,
                    **{key: _outward(values[key], best[key], n, side, stripped) for key, n in kept.items()},
                }
                if trial == best:
                    break
                wider = marker.attempt(trial)
                if wider is not None:
                    best, found = trial, wider
                    break
    return found


def _kept(plain: str, value: str, cut: Cut, place: tuple[int | None, int | None, int] | None, side: int) -> int:
    """How many characters of the outer whitespace on one side stand beside the mark in the text too."""
    position = place[side] if place else None
    if position is None or not cut[side]:
        return 0
    if side:
        return _common_prefix(plain[position : position + cut[1]], value[len(value) - cut[1] :])
    return _common_prefix(plain[max(0, position - cut[0]) : position][::-1], value[: cut[0]][::-1])


def _outward(value: str, cut: Cut, kept: int, side: int, stripped: str) -> Cut:
    """The cut with up to ``kept`` characters of whitespace back inside, but for the outer ones that are stripped."""
    if side:
        rest = value[len(value) - cut[1] :]
        return cut[0], len(rest) - min(kept, len(rest.rstrip(stripped)))
    rest = value[: cut[0]]
    return len(rest) - min(kept, len(rest.lstrip(stripped))), cut[1]


def _common_prefix(text: str, other: str) -> int:
    count = 0
    while count < min(len(text), len(other)) and text[count] == other[count]:
        count += 1
    return count
