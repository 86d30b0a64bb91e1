"""What of a conversation a chat template does not write: an error where it was to be trained, else a counted note."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ftl_runner.data.errors import RowError
from ftl_runner.data.locate import Located
from ftl_runner.data.messages import Conversation, Message


def refuse_omitted(
    message: Message,
    index: int,
    located: Located,
    turn: tuple[int, int] | None,
    *,
    trained: bool,
    template: str,
) -> None:
    """Refuse a conversation of which the model would learn something else than what stands there.

    Args:
        turn: where the message's turn begins and ends in the text, None if it was not found.

    Raises:
        RowError: tool calls that the template does not write, or a trained message that is not in the text.
    """
    if message.has_tool_calls and not _writes_calls(message, index, located, turn):
        raise RowError(
            f"message {index + 1} ({message.role}) has tool calls, which chat template {template!r} does not write",
            "choose a chat_template with tools, such as qwen3 or the tokenizer's own (tokenizer_default)",
        )
    if turn is None and trained and (message.content.strip() or message.has_tool_calls):
        raise RowError(
            f"message {index + 1} ({message.role}) cannot be found in the text that chat template {template!r} makes "
            "of it",
            "the template drops or rewrites it: choose another chat_template, or leave its role out of roles_to_train",
        )


def _writes_calls(message: Message, index: int, located: Located, turn: tuple[int, int] | None) -> bool:
    extent = located.extents[index]
    if extent is not None and extent.called:
        return True
    text = located.text if turn is None else located.text[turn[0] : turn[1]]
    return any(name in text for name in _function_names(message.fields["tool_calls"]))


def _function_names(calls: Any) -> list[str]:
    """Names of the functions in tool calls or tool definitions."""
    functions = [call.get("function") or call for call in calls if isinstance(call, Mapping)]
    names = [function.get("name") for function in functions if isinstance(function, Mapping)]
    return [name for name in names if isinstance(name, str) and name]


def omissions(conversation: Conversation, located: Located, template: str) -> tuple[str, ...]:
    """What is not in the text, as one short statement each: messages of a role, all reasoning, the tools."""
    notes: dict[str, None] = {}
    reasoning = [message for message in conversation.messages if message.thinking_key is not None]
    for message, extent in zip(conversation.messages, located.extents, strict=True):
        if extent is None and (content := message.content.strip()) and content not in located.text:
            notes[f"chat template {template!r} does not write messages of the role {message.role}"] = None
    if reasoning and not any(located.thinking) and not any(_thought(m) in located.text for m in reasoning):
        notes[f"chat template {template!r} does not write reasoning"] = None
    names = _function_names(conversation.tools or ())
    if names and not any(name in located.text for name in names):
        notes[f"chat template {template!r} does not write tool definitions"] = None
    return tuple(notes)


def _thought(message: Message) -> str:
    return str(message.fields.get(message.thinking_key or "", "")).strip()
