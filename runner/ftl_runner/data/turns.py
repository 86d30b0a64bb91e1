"""Which characters of a rendered conversation are trained.

A turn's body is what the model would have to write after the inference prompt: content, reasoning and tool calls
that the template rendered, without the role header. Its terminator (end-of-turn or end-of-sequence token) is trained
as ``train_on_eot`` and ``train_on_eos`` say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ftl_runner.data.errors import RowError
from ftl_runner.data.locate import Located, Piece, locate
from ftl_runner.data.messages import Conversation, Message
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
        policy = self.train_on_eos if token == self.eos_token else self.train_on_eot
        if policy == "all":
            return True
        return trained if policy == "turn" else policy == "last" and last


@dataclass(frozen=True, slots=True)
class _Turn:
    """``start`` to ``body_end`` is the body; ``end`` lies behind the terminator, or equals ``body_end``."""

    start: int
    body_end: int
    end: int
    terminator: str | None


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
        return Rendered(located.text, spans)

    def _find_turns(self, conversation: Conversation, located: Located) -> list[_Turn | None]:
        messages = conversation.messages
        tagged = self._tagged_turns(conversation) if self._tagged else {}
        turns: list[_Turn | None] = []
        cursor = 0
        for index, message in enumerate(messages):
            bound = _next_start(located, index, len(located.text))
            if index in tagged:
                turn: _Turn | None = self._end_turn(located.text, *tagged[index], bound, message, inside=True)
            else:
                turn = self._find_turn(conversation, located, index, cursor, bound)
            turns.append(turn)
            cursor = turn.end if turn else cursor
        return turns

    def _tagged_turns(self, conversation: Conversation) -> dict[int, tuple[int, int]]:
        fields = [message.fields for message in conversation.messages]
        blocks = self.template.render_generations(fields, conversation.tools, conversation.template_kwargs)
        assistants = [index for index, message in enumerate(conversation.messages) if message.role == "assistant"]
        return dict(zip(assistants, blocks, strict=True)) if len(blocks) == len(assistants) else {}

    def _find_turn(
        self, conversation: Conversation, located: Located, index: int, cursor: int, bound: int
    ) -> _Turn | None:
        message, content, thinking = conversation.messages[index], located.content[index], located.thinking[index]
        plain = content is not None and thinking is None and not message.has_tool_calls
        if plain and content is not None:
            start = content.start - (self._lead_before(located.text, content.start, cursor, message))
            return self._end_turn(located.text, start, content.end, bound, message)
        if message.role != "assistant":
            if content is None:
                return None
            return self._end_turn(located.text, content.start, content.end, bound, message)
        return self._between_anchors(located, index, cursor, bound, message) or self._by_prefixes(
            conversation, located, index
        )

    def _lead_before(self, text: str, start: int, cursor: int, message: Message) -> int:
        lead = self.facts.lead
        if not lead or message.role != "assistant" or not text.endswith(lead, cursor, start):
            return 0
        return len(lead)

    def _between_anchors(self, located: Located, index: int, cursor: int, bound: int, message: Message) -> _Turn | None:
        """A turn with reasoning, tool calls or a content that stayed unlocated: from its header to its terminator."""
        header, text = self.facts.generation_prompt, located.text
        if not header:
            return None
        pieces = [piece for piece in (located.thinking[index], located.content[index]) if piece is not None]
        if pieces:
            at = text.rfind(header, cursor, min(piece.start for piece in pieces))
        else:
            at = text.find(header, cursor, bound)
        if at < 0:
            return None
        start = at + len(header)
        last = max((piece.end for piece in pieces), default=start)
        position, token = _first_terminator(text, self.policy.terminators, last, bound)
        if token is None:
            return None
        return _Turn(start, position, position + len(token), token)

    def _by_prefixes(self, conversation: Conversation, located: Located, index: int) -> _Turn | None:
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
        found = [(upto.rfind(token, len(prompt)), token) for token in self.policy.terminators]
        position, token = max(found, default=(-1, ""))
        if position < 0:
            return _Turn(len(prompt), len(upto), len(upto), None)
        return _Turn(len(prompt), position, position + len(token), token)

    def _end_turn(
        self, text: str, start: int, end: int, bound: int, message: Message, *, inside: bool = False
    ) -> _Turn:
        """Find the terminator right behind the body (or, of a tagged block, as its tail)."""
        if inside:
            body = text[start:end].rstrip()
            for tail in self.policy.terminators:
                if body.endswith(tail):
                    return _Turn(start, start + len(body) - len(tail), start + len(body), tail)
        position, token = _first_terminator(text, self.policy.terminators, end, bound)
        gap = text[end:position]
        if token is None or (gap.strip() and gap != self.facts.gap and not message.has_tool_calls):
            return _Turn(start, end, end, None)
        return _Turn(start, end, position + len(token), token)

    def _trained_spans(
        self, messages: Sequence[Message], located: Located, turns: Sequence[_Turn | None]
    ) -> list[Span]:
        spans: list[Span] = []
        last_ended = max((i for i, turn in enumerate(turns) if turn and turn.terminator), default=-1)
        for index, (message, turn) in enumerate(zip(messages, turns, strict=True)):
            trained = self.policy.trains(message, last=index == len(messages) - 1)
            if turn is None:
                if trained and (message.content.strip() or message.has_tool_calls):
                    raise RowError(
                        f"message {index + 1} ({message.role}) cannot be found in the text that chat template "
                        f"{self.template.name!r} makes of it",
                        "the template drops or rewrites it: choose another chat_template, or leave its role out of "
                        "roles_to_train",
                    )
                continue
            ends = turn.terminator is not None and self.policy.trains_terminator(
                turn.terminator, trained=trained, last=index == last_ended
            )
            spans.extend(_turn_spans(message, located.content[index], turn, index, trained, ends))
        return spans


def _turn_spans(
    message: Message, content: Piece | None, turn: _Turn, index: int, trained: bool, ends: bool
) -> list[Span]:
    if trained and message.detail is None:
        end = turn.end if ends else turn.body_end
        return [Span(turn.start, end, index)] if end > turn.start else []
    spans: list[Span] = []
    if trained and message.detail is not None and content is not None:
        for part in message.detail:
            start = max(content.start, content.start + part.start - content.offset)
            end = min(content.end, content.start + part.end - content.offset)
            if part.train and start < end:
                spans.append(Span(start, end, index, exact=False))
    if ends and turn.terminator is not None:
        spans.append(Span(turn.end - len(turn.terminator), turn.end, index))
    return spans


def _next_start(located: Located, index: int, default: int) -> int:
    for following in range(index + 1, len(located.content)):
        starts = [p.start for p in (located.thinking[following], located.content[following]) if p is not None]
        if starts:
            return min(starts)
    return default


def _first_terminator(text: str, terminators: Sequence[str], start: int, bound: int) -> tuple[int, str | None]:
    """The nearest terminator in ``text[start:bound]``, the longest of those that begin at one place."""
    best: tuple[int, str | None] = (start, None)
    for token in terminators:
        position = text.find(token, start, bound)
        if position >= 0 and (best[1] is None or position < best[0]):
            best = (position, token)
    return best
