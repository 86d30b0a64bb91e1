"""Which characters of a rendered conversation are trained.

A turn's body is what the model would have to write after the inference prompt: content, reasoning and tool calls
that the template rendered, without the role header. Its terminator (end-of-turn or end-of-sequence token) is trained
as ``train_on_eot`` and ``train_on_eos`` say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ftl_runner.data.errors import RowError
from ftl_runner.data.locate import Located, Piece, locate
from ftl_runner.data.messages import Conversation, Message
from ftl_runner.data.omissions import omissions, refuse_omitted
from ftl_runner.data.templates import ChatTemplate, TemplateFacts


@dataclass(frozen=True, slots=True)
class Span:
    """Trained characters. ``turn`` numbers the turn they belong to."""

    start: int
    end: int
    turn: int
    exact: bool = True
    """The ends are ends of tokens too (tokenization is split there); a loose span takes only whole tokens inside it."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A row's text and its trained spans, in order, disjoint."""

    text: str
    spans: list[Span]
    splittable: bool = False
    notes: tuple[str, ...] = ()
    """What of the row is not in the text."""


@dataclass(frozen=True)
class MaskPolicy:
    """What of a conversation is trained; the names are Axolotl's."""

    roles_to_train: tuple[str, ...] = ("assistant",)
    train_on_inputs: bool = False
    train_on_eos: str | None = "turn"
    train_on_eot: str | None = "turn"
    eos_token: str | None = None
    eot_tokens: tuple[str, ...] = ()
    last_turn_only: bool = False
    """Axolotl's legacy mode: ``roles_to_train: []`` without a ``train_on_*`` key."""

    @cached_property
    def terminators(self) -> tuple[str, ...]:
        """Longest first, so that of two that begin at one place the longer is found."""
        tokens = (*self.eot_tokens, *((self.eos_token,) if self.eos_token else ()))
        return tuple(sorted(set(tokens), key=lambda token: (-len(token), token)))

    @cached_property
    def has_two_kinds(self) -> bool:
        """Whether an end-of-turn and an end-of-sequence token may stand behind one turn."""
        return len({self.is_eos(token) for token in self.terminators}) > 1

    def trains(self, message: Message, *, last: bool) -> bool:
        """Whether this turn is trained: the row's own word first, then its details, then the role."""
        if message.train is not None:
            return message.train
        if message.detail is not None:
            return any(part.train for part in message.detail)
        if self.last_turn_only:
            return last
        return self.train_on_inputs or message.role in self.roles_to_train

    def trains_terminator(self, token: str, *, trained: bool, last: bool) -> bool:
        """Whether a terminator is trained; ``last``: no other of its kind follows in the conversation."""
        policy = self.train_on_eos if self.is_eos(token) else self.train_on_eot
        if policy == "all":
            return True
        return trained if policy == "turn" else policy == "last" and last

    def is_eos(self, token: str) -> bool:
        """Whether ``train_on_eos`` decides about this token; else ``train_on_eot`` does."""
        return token == self.eos_token


class _End(NamedTuple):
    """A terminator behind a turn's body."""

    start: int
    token: str

    @property
    def stop(self) -> int:
        return self.start + len(self.token)


class _Turn(NamedTuple):
    """``start`` to ``body_end`` is the body; ``ends`` are the terminators behind it, mostly one."""

    start: int
    body_end: int
    ends: tuple[_End, ...] = ()

    @property
    def stop(self) -> int:
        return self.ends[-1].stop if self.ends else self.body_end


class TurnRenderer:
    """Renders conversations with one template and one mask policy."""

    def __init__(self, template: ChatTemplate, facts: TemplateFacts, policy: MaskPolicy) -> None:
        self.template, self.facts, self.policy = template, facts, policy
        self._tagged = template.has_generation_tags

    def render(self, conversation: Conversation) -> Rendered:
        """Text and trained spans.

        Raises:
            RowError: the template refuses the conversation, or a turn to train cannot be found in the text.
        """
        tools, extra = conversation.tools, conversation.template_kwargs
        located = locate(conversation, lambda fields: self.template.render(fields, tools, extra=extra))
        turns = self._find_turns(conversation, located)
        spans = self._trained_spans(conversation.messages, located, turns)
        return Rendered(located.text, spans, notes=omissions(conversation, located, self.template.name))

    def _find_turns(self, conversation: Conversation, located: Located) -> list[_Turn | None]:
        tagged = self._tagged_turns(conversation) if self._tagged else {}
        neighbours = _neighbours(located)
        turns: list[_Turn | None] = []
        cursor = 0
        for index, message in enumerate(conversation.messages):
            room = neighbours[index]
            if index in tagged:
                turn: _Turn | None = self._tagged_turn(located.text, *tagged[index], room.stop)
            elif message.role == "assistant":
                turn = self._answer(conversation, located, index, room, cursor)
            else:
                turn = self._other_turn(located, index, room)
            turns.append(turn)
            if turn is not None:
                cursor = turn.stop
        return turns

    def _tagged_turns(self, conversation: Conversation) -> dict[int, tuple[int, int]]:
        fields = [message.fields for message in conversation.messages]
        blocks = self.template.render_generations(fields, conversation.tools, conversation.template_kwargs)
        assistants = [index for index, message in enumerate(conversation.messages) if message.role == "assistant"]
        return dict(zip(assistants, blocks, strict=True)) if len(blocks) == len(assistants) else {}

    def _tagged_turn(self, text: str, start: int, end: int, bound: int) -> _Turn:
        """A ``{% generation %}`` block: its terminator is its tail, or stands right behind it."""
        stop = start + len(text[start:end].rstrip())
        for tail in self.policy.terminators:
            if text.endswith(tail, start, stop):
                return _Turn(start, stop - len(tail), self._ends(text, stop - len(tail), bound))
        ends = self._ends(text, end, bound)
        return _Turn(start, end, ends if ends and self._is_gap(text[end : ends[0].start]) else ())

    def _other_turn(self, located: Located, index: int, room: _Room) -> _Turn | None:
        content = located.content[index]
        if content is None:
            return None
        ends = self._ends(located.text, content.end, room.stop)
        return _Turn(
            content.start,
            content.end,
            ends if ends and self._is_gap(located.text[content.end : ends[0].start]) else (),
        )

    def _answer(
        self, conversation: Conversation, located: Located, index: int, room: _Room, cursor: int
    ) -> _Turn | None:
        """A turn of the model: from where its prompt ends to its terminator. ``cursor`` is the last turn's end."""
        text, extent, message = located.text, located.extents[index], conversation.messages[index]
        start = self._answer_start(conversation.messages, located, index, room, cursor)
        if start is None:
            return self._by_prefixes(conversation, located, index, room)
        if extent is None:
            ends = self._ends(text, start, room.stop)
            return _Turn(start, ends[0].start, ends) if ends else _Turn(start, start)
        ends = self._ends(text, extent.end, room.stop, last=not extent.closed)
        whole = message.has_tool_calls or message.thinking_key is not None or not extent.closed
        if ends and (whole or self._is_gap(text[extent.end : ends[0].start])):
            return _Turn(start, ends[0].start if whole else extent.end, ends)
        return _Turn(start, extent.end)

    def _answer_start(
        self, messages: Sequence[Message], located: Located, index: int, room: _Room, cursor: int
    ) -> int | None:
        """Where the inference prompt of this turn ends: behind the header, or what stands behind a question."""
        text, extent, content = located.text, located.extents[index], located.content[index]
        first = extent.start if extent else room.stop
        header = self.facts.generation_prompt
        if header:
            # Between the neighbour and this turn's own first character stands nothing but the template's text.
            search = text.rfind if extent and extent.opened else text.find
            before = cursor if room.start <= cursor <= first else room.start
            at = search(header, before, first)
            if at >= 0:
                return at + len(header)
        if extent is not None and extent.opened and content is not None and content.start == extent.start:
            lead = self.facts.lead
            return first - len(lead) if lead and text.endswith(lead, room.start, first) else first
        if room.previous is not None:
            handover = self.facts.handovers.get(messages[room.previous].role, "")
            start = room.previous_end + len(handover)
            if handover and start <= first and text.startswith(handover, room.previous_end):
                return start
        return None

    def _by_prefixes(self, conversation: Conversation, located: Located, index: int, room: _Room) -> _Turn | None:
        """Last resort, two more renders: the text up to this turn's prompt and up to its end."""
        fields = [message.fields for message in conversation.messages]
        tools, extra, text = conversation.tools, conversation.template_kwargs, located.text
        try:
            prompt = self.template.render(fields[:index], tools, add_generation_prompt=True, extra=extra)
            upto = self.template.render(fields[: index + 1], tools, extra=extra)
        except RowError:
            return None
        if not text.startswith(prompt) or not text.startswith(upto) or len(upto) <= len(prompt):
            return None
        extent, bound = located.extents[index], min(room.stop, len(upto))
        ends = self._ends(text, extent.end if extent else len(prompt), bound, last=extent is None or not extent.closed)
        return _Turn(len(prompt), ends[0].start if ends else len(upto), ends)

    def _ends(self, text: str, start: int, bound: int, *, last: bool = False) -> tuple[_End, ...]:
        """The terminator nearest behind ``start`` (or the last one), and one of the other kind right behind it."""
        first = _last_terminator(text, self.policy.terminators, start, bound) if last else None
        first = first or _first_terminator(text, self.policy.terminators, start, bound)
        if first is None:
            return ()
        if not self.policy.has_two_kinds:
            return (first,)
        second = _first_terminator(text, self.policy.terminators, first.stop, bound)
        if (
            second is None
            or text[first.stop : second.start].strip()
            or self.policy.is_eos(first.token) == self.policy.is_eos(second.token)
        ):
            return (first,)
        return first, second

    def _is_gap(self, between: str) -> bool:
        return not between.strip() or between == self.facts.gap

    def _trained_spans(
        self, messages: Sequence[Message], located: Located, turns: Sequence[_Turn | None]
    ) -> list[Span]:
        last_of_kind = self._last_ends(turns)
        spans: list[Span] = []
        for index, (message, turn) in enumerate(zip(messages, turns, strict=True)):
            trained = self.policy.trains(message, last=index == len(messages) - 1)
            if turn is None or message.has_tool_calls:
                body = (turn.start, turn.stop) if turn is not None else None
                refuse_omitted(message, index, located, body, trained=trained, template=self.template.name)
            if turn is None:
                continue
            ends = [
                end
                for end in turn.ends
                if self.policy.trains_terminator(end.token, trained=trained, last=end in last_of_kind)
            ]
            spans.extend(_turn_spans(message, located.content[index], turn, index, trained, ends))
        return sorted(spans, key=lambda span: span.start)

    def _last_ends(self, turns: Sequence[_Turn | None]) -> tuple[_End, ...]:
        """The last terminator of each kind, where a policy asks for it."""
        if "last" not in (self.policy.train_on_eos, self.policy.train_on_eot):
            return ()
        ends = (end for turn in turns if turn is not None for end in turn.ends)
        return tuple({self.policy.is_eos(end.token): end for end in ends}.values())


def _turn_spans(
    message: Message, content: Piece | None, turn: _Turn, index: int, trained: bool, ends: Sequence[_End]
) -> list[Span]:
    spans: list[Span] = []
    ends = list(ends)
    if trained and message.detail is None:
        stop = turn.body_end
        if ends and ends[0] == turn.ends[0]:
            stop = ends.pop(0).stop  # with what the template writes between them
        if stop > turn.start:
            spans.append(Span(turn.start, stop, index))
    elif trained and message.detail is not None and content is not None:
        for part in message.detail:
            start = max(content.start, content.start + part.start - content.offset)
            end = min(content.end, content.start + part.end - content.offset)
            if part.train and start < end:
                spans.append(Span(start, end, index, exact=False))
    return [*spans, *(Span(end.start, end.stop, index) for end in ends)]


class _Room(NamedTuple):
    """The part of the text that a message must be in, between the messages before and behind it there."""

    start: int
    stop: int
    previous: int | None
    """Index of the message whose own text ends at ``previous_end``."""
    previous_end: int


def _neighbours(located: Located) -> list[_Room]:
    """The room of each message: templates may write messages in another order than they come in."""
    length = len(located.text)
    in_order = _rooms_in_order(located, length)
    if in_order is not None:
        return in_order
    order = sorted((extent.start, extent.end, i) for i, extent in enumerate(located.extents) if extent is not None)
    stops = [start for start, _, _ in order[1:]] + [length]
    rooms: dict[int, _Room] = {}
    reached: tuple[int, int | None] = (0, None)
    for (_, end, index), stop in zip(order, stops, strict=True):
        rooms[index] = _Room(reached[0], max(stop, end), reached[1], reached[0])
        reached = max(reached, (end, index), key=lambda pair: pair[0])
    result: list[_Room] = [_Room(0, length, None, 0)] * len(located.extents)
    stop = length
    for index in range(len(result) - 1, -1, -1):
        extent = located.extents[index]
        result[index] = rooms.get(index) or _Room(0, stop, None, 0)
        stop = extent.start if extent is not None else stop
    known: tuple[int, int | None] = (0, None)
    for index, extent in enumerate(located.extents):
        if extent is not None:
            known = (extent.end, index)
        else:
            start = min(known[0], result[index].stop)
            result[index] = _Room(start, result[index].stop, known[1], known[0])
    return result


def _rooms_in_order(located: Located, length: int) -> list[_Room] | None:
    """The rooms where every message was found, one behind the other, as it mostly is."""
    starts: list[int] = []
    ends = [0]
    for extent in located.extents:
        if extent is None or extent.start < ends[-1]:
            return None
        starts.append(extent.start)
        ends.append(extent.end)
    numbers: list[int | None] = [None, *range(len(starts))]
    return list(map(_Room, ends, [*starts[1:], length], numbers, ends))


def _first_terminator(text: str, terminators: Sequence[str], start: int, bound: int) -> _End | None:
    """The nearest terminator in ``text[start:bound]``, the longest of those that begin at one place."""
    best: _End | None = None
    for token in terminators:
        position = text.find(token, start, bound)
        if position >= 0 and (best is None or position < best.start):
            best = _End(position, token)
    return best


def _last_terminator(text: str, terminators: Sequence[str], start: int, bound: int) -> _End | None:
    found = [_End(position, token) for token in terminators if (position := text.rfind(token, start, bound)) >= 0]
    return max(found, key=lambda end: end.start, default=None)
