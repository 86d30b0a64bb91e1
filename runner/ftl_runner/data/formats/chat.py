"""Conversations: a list of messages a row, written by a chat template."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import RowError, did_you_mean
from ftl_runner.data.formats.registry import Format
from ftl_runner.data.messages import Conversation, DetailSpan, Message
from ftl_runner.data.rows import Row, as_list, as_text, describe, require

_ROLES: Mapping[str, tuple[str, ...]] = {
    "user": ("human", "user"),
    "assistant": ("gpt", "assistant"),
    "system": ("system",),
    "tool": ("tool",),
}
_EXTRA_ROLES = ("developer", "ipython", "function", "observation", "model", "context")
"""Roles that some templates know; the template has the last word on them."""
_THINK_TAGS = (("<think>", "</think>"), ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<reasoning>", "</reasoning>"))


def chat_template(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """OpenAI messages, and whatever ``message_property_mappings`` and ``roles`` map onto them."""
    return ChatReader.build(spec, data, spec.field_messages or "messages")


def sharegpt(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """Conversations of ``from`` and ``value``, in a column ``conversations`` or ``conversation``."""
    mappings = {"role": "from", "content": "value"}
    several = ChatReader.build(spec, data, spec.field_messages or "conversations", mappings)
    single = replace(several, field_messages=spec.field_messages or "conversation")
    return lambda row: (single if "conversation" in row and "conversations" not in row else several)(row)


@dataclass(frozen=True)
class ChatReader:
    """Messages of a row, under whatever names an entry's keys give them."""

    field_messages: str
    field_system: str
    field_tools: str
    role_key: str
    content_key: str
    renamed: Mapping[str, str]
    roles: Mapping[str, str]
    training_key: str | None
    detail_key: str | None
    thinking_key: str
    template_thinking_key: str
    split_thinking: bool
    drop_system: bool
    default_system: str | None
    hidden: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def build(
        cls, spec: DatasetSpec, data: DataSection, messages: str, mappings: Mapping[str, str] | None = None
    ) -> ChatReader:
        """The reader of one dataset entry.

        Args:
            messages: column of the messages.
            mappings: names of message properties where the entry gives none.
        """
        mapping = {"role": "role", "content": "content", **(mappings or {}), **(spec.message_property_mappings or {})}
        given = (("user", spec.field_human), ("assistant", spec.field_model))
        names = {**(spec.roles or _ROLES)}
        names.update({role: (*names.get(role, ()), name) for role, name in given if name})
        thinking = spec.field_thinking or "reasoning_content"
        hidden = {spec.message_field_training, spec.message_field_training_detail, thinking, *mapping.values()}
        return cls(
            field_messages=messages,
            field_system=spec.field_system or "system",
            field_tools=spec.field_tools or "tools",
            role_key=mapping["role"],
            content_key=mapping["content"],
            renamed={new: old for new, old in mapping.items() if new not in ("role", "content")},
            roles={name: role for role, aliases in names.items() for name in (role, *aliases)},
            training_key=spec.message_field_training,
            detail_key=spec.message_field_training_detail,
            thinking_key=thinking,
            template_thinking_key=spec.template_thinking_key or "reasoning_content",
            split_thinking=bool(spec.split_thinking),
            drop_system=spec.drop_system_message,
            default_system=data.default_system_message,
            hidden=frozenset(name for name in hidden if name),
        )

    def __call__(self, row: Row) -> Conversation:
        return self.conversation(row, require(row, self.field_messages), f"field {self.field_messages!r}")

    def conversation(self, row: Row, value: Any, what: str) -> Conversation:
        """The messages in ``value`` (a list, or JSON text of one) with the row's system prompt and tools.

        Raises:
            RowError: no list, an empty one, or a bad message in it.
        """
        raw = as_list(value, what)
        if not raw:
            raise RowError(f"{what} is an empty list", "a conversation needs a message")
        messages = self._with_system(row, [self.message(item, number) for number, item in enumerate(raw, start=1)])
        extra = row.get("chat_template_kwargs")
        return Conversation(
            messages=tuple(messages),
            tools=self._tools(row),
            template_kwargs=extra if isinstance(extra, Mapping) else None,
        )

    def _tools(self, row: Row) -> tuple[Any, ...] | None:
        what = f"field {self.field_tools!r}"
        tools = row.get(self.field_tools)
        if not tools:
            return None
        return tuple(_tool(tool, f"tool {number} of {what}") for number, tool in enumerate(as_list(tools, what), 1))

    def _with_system(self, row: Row, messages: list[Message]) -> list[Message]:
        if self.drop_system:
            messages = [message for message in messages if message.role != "system"]
            if not messages:
                raise RowError("no message is left without the system message")
            return messages
        if messages[0].role == "system":
            return messages
        system = row.get(self.field_system) or self.default_system
        if not system:
            return messages
        text = as_text(system, f"field {self.field_system!r}")
        return [Message("system", text, {"role": "system", "content": text}), *messages]

    def message(self, item: Any, number: int) -> Message:
        """One message; ``number`` is its place in the conversation, for errors."""
        if not isinstance(item, dict):
            raise RowError(f"message {number} is {describe(item)}, not an object with role and content")
        role = self._role(item, number)
        fields: dict[str, Any] = {"role": role}
        detail: tuple[DetailSpan, ...] | None = None
        content, detail = self._content(item, number)
        fields["content"] = content
        fields.update({key: value for key, value in item.items() if key not in self.hidden and value is not None})
        fields["role"], fields["content"] = role, content
        fields.update({new: item[old] for new, old in self.renamed.items() if item.get(old) is not None})
        thinking = item.get(self.thinking_key)
        if thinking is not None:
            fields[self.template_thinking_key] = self._thinking(thinking, number)
        elif self.split_thinking and role == "assistant":
            self._split_thinking(fields)
        if fields.get("tool_calls"):
            fields["tool_calls"] = [_tool_call(call) for call in as_list(fields["tool_calls"], "tool_calls")]
        content = fields["content"]
        self._check_content(fields, number)
        has_thinking = bool(fields.get(self.template_thinking_key))
        return Message(
            role=role,
            content=content,
            fields=fields,
            train=self._flag(item, number),
            detail=detail if detail is not None else self._detail(item, content, number),
            thinking_key=self.template_thinking_key if has_thinking else None,
        )

    def _role(self, item: Mapping[str, Any], number: int) -> str:
        given = require(item, self.role_key, f"key of message {number}")
        role = self.roles.get(str(given)) or (str(given) if given in _EXTRA_ROLES else None)
        if role is None:
            known = ", ".join(sorted(self.roles))
            close = did_you_mean(str(given), self.roles)
            raise RowError(
                f"message {number} has the unknown role {given!r}",
                f"{close or f'known: {known}'}; other names are mapped with roles: {{user: [{given}]}}",
            )
        return role

    def _content(self, item: Mapping[str, Any], number: int) -> tuple[str, tuple[DetailSpan, ...] | None]:
        value = item.get(self.content_key)
        if value is None:
            if item.get("tool_calls") or item.get(self.thinking_key):
                return "", None
            require(item, self.content_key, f"key of message {number}")
        if isinstance(value, list | tuple):
            return _join_parts(value, number)
        return as_text(value, f"content of message {number}"), None

    def _thinking(self, value: Any, number: int) -> str:
        what = f"{self.thinking_key} of message {number}"
        if not isinstance(value, list | tuple):
            return as_text(value, what)
        text, spans = _join_parts(value, number)
        if spans and not all(span.train for span in spans):
            raise RowError(f"{what} has a part that is not to be trained", "reasoning is trained as a whole")
        return text

    def _check_content(self, fields: Mapping[str, Any], number: int) -> None:
        if fields["content"].strip() or fields["role"] not in ("user", "assistant"):
            return
        if fields.get("tool_calls") or fields.get(self.template_thinking_key):
            return
        raise RowError(f"message {number} ({fields['role']}) is empty", "fill it in or leave the row out")

    def _flag(self, item: Mapping[str, Any], number: int) -> bool | None:
        value = item.get(self.training_key) if self.training_key else None
        if value is None or isinstance(value, bool):
            return value
        raise RowError(f"{self.training_key!r} of message {number} is {describe(value)}, not true or false")

    def _detail(self, item: Mapping[str, Any], content: str, number: int) -> tuple[DetailSpan, ...] | None:
        value = item.get(self.detail_key) if self.detail_key else None
        if not value:
            return None
        spans = []
        for part in as_list(value, f"{self.detail_key} of message {number}"):
            try:
                start, last, train = int(part["begin_offset"]), int(part["end_offset"]), bool(part["train"])
            except (KeyError, TypeError, ValueError) as error:
                raise RowError(
                    f"{self.detail_key} of message {number} needs begin_offset, end_offset (inclusive) and train"
                ) from error
            if not 0 <= start <= last < len(content):
                raise RowError(
                    f"{self.detail_key} of message {number}: {start} to {last} is outside of {len(content)} characters"
                )
            spans.append(DetailSpan(start, last + 1, train))
        return tuple(sorted(spans, key=lambda span: span.start))

    def _split_thinking(self, fields: dict[str, Any]) -> None:
        """Move ``<think>...</think>`` at the start of an answer into the field that the template wants it in."""
        text: str = fields["content"]
        for opening, closing in _THINK_TAGS:
            head, found, rest = text.partition(closing)
            if found and head.lstrip().startswith(opening):
                fields[self.template_thinking_key] = head.lstrip().removeprefix(opening).strip("\n")
                fields["content"] = rest.lstrip("\n")
                return


def _join_parts(parts: Any, number: int) -> tuple[str, tuple[DetailSpan, ...] | None]:
    """Content as a list of parts: their texts end to end, each with its own ``train`` or ``weight``."""
    texts: list[str] = []
    spans: list[DetailSpan] = []
    flagged = False
    position = 0
    for part in parts:
        if not isinstance(part, Mapping):
            raise RowError(f"content of message {number} is a list with {describe(part)} in it, not of text parts")
        value = next((part[key] for key in ("text", "content", "value") if part.get(key) is not None), None)
        if value is None:
            raise RowError(f"a part of message {number} has no text", "only text parts can be trained here")
        text = as_text(value, f"a part of message {number}")
        wish = part["train"] if part.get("train") is not None else part.get("weight")
        flagged = flagged or wish is not None
        spans.append(DetailSpan(position, position + len(text), bool(wish) if wish is not None else True))
        texts.append(text)
        position += len(text)
    return "".join(texts), tuple(spans) if flagged else None


def _tool(tool: Any, what: str) -> Any:
    """A tool definition, its JSON text decoded, without the nulls that Arrow puts into missing fields."""
    if isinstance(tool, str):
        try:
            tool = json.loads(tool)
        except ValueError as error:
            raise RowError(
                f"{what} is text that is not JSON: {error}", "give an object, or JSON text of one"
            ) from error
    if not isinstance(tool, Mapping):
        raise RowError(f"{what} is {describe(tool)}, not an object", "a tool is {type: function, function: {...}}")
    return _without_nulls(tool)


def _tool_call(call: Any) -> Any:
    """A tool call with its arguments as an object: templates write them with ``tojson``."""
    if not isinstance(call, Mapping):
        raise RowError(f"a tool call is {describe(call)}, not an object")
    call = _without_nulls(call)
    function = call.get("function")
    if isinstance(function, Mapping) and isinstance(function.get("arguments"), str):
        try:
            decoded = json.loads(function["arguments"])
        except ValueError:
            return call
        if isinstance(decoded, Mapping):
            return {**call, "function": {**function, "arguments": decoded}}
    return call


def _without_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_without_nulls(item) for item in value]
    return value
