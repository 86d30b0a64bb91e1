"""What a conversation needs and a chat template does not write: said instead of lost."""

from __future__ import annotations

import re
from functools import lru_cache

from ftl_runner.data.errors import RowError
from ftl_runner.data.messages import Conversation
from ftl_runner.data.templates import ChatTemplate

_HINT = "choose a chat_template that writes {what}, such as qwen3, or leave {what} out of the rows"


def check_support(template: ChatTemplate, conversation: Conversation) -> None:
    """Refuse tools and tool calls that the template would leave out without a word.

    Raises:
        RowError: the template never reads ``tools`` or ``tool_calls``, and the conversation has them.
    """
    if conversation.tools and not _mentions(template.source, "tools"):
        raise RowError(f"chat template {template.name!r} does not write tools", _HINT.format(what="tools"))
    number = next((n for n, message in enumerate(conversation.messages, 1) if message.has_tool_calls), None)
    if number is not None and not _mentions(template.source, "tool_calls"):
        raise RowError(
            f"message {number} calls a tool, and chat template {template.name!r} does not write tool calls",
            _HINT.format(what="tool calls"),
        )


@lru_cache(maxsize=64)
def _mentions(source: str, name: str) -> bool:
    return re.search(rf"\b{name}\b", source) is not None
