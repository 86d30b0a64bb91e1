"""Chat templates: where they come from, compiled once, and what a probe tells about them.

The compiler is transformers' own, so that a training text and ``apply_chat_template`` at inference come out of the
same environment (sandbox, whitespace rules, ``tojson``, ``raise_exception``, ``{% generation %}``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ftl_config.assets import asset_path
from ftl_runner.data.errors import DataError, RowError, did_you_mean

_FALLBACK_PREFIX = "tokenizer_default_fallback_"
_GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
_ALIASES = {
    "aya": "cohere",
    "command_a_rag": "command_a",
    "command_a_tool_use": "command_a",
    "deepseek": "deepseek_v2",
    "gemma2": "gemma",
    "gemma4_unified": "gemma4",
    "granitemoe": "granite",
    "llama3_2_vision": "llama3",
    "llava": "vicuna",
    "mistral": "mistral_v2v3",
    "nemotron_h": "chatml",
    "phi_35": "phi_3",
    "pixtral": "mistral_v3_tekken",
    "qwen": "qwen2_5",
    "qwen2": "chatml",
    "qwen3_5": "qwen3",
    "qwen_25": "qwen2_5",
}
"""Other names: of models that are written alike, and of image models, whose text is."""


@dataclass(frozen=True)
class ChatTemplate:
    """A compiled template with everything it is rendered with besides the messages."""

    name: str
    source: str
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Special tokens of the tokenizer and ``chat_template_kwargs``."""

    @property
    def has_generation_tags(self) -> bool:
        return _GENERATION_TAG.search(self.source) is not None

    @cached_property
    def _compiled(self) -> Any:
        from jinja2 import TemplateError
        from transformers.utils import chat_template_utils

        try:
            return chat_template_utils._compile_jinja_template(self.source)
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            place = f", line {line}" if line else ""
            raise DataError(f"chat template {self.name!r} does not compile{place}: {error}") from error

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None = None,
        *,
        add_generation_prompt: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a conversation.

        Raises:
            RowError: the template refuses these messages (``raise_exception``, a field it needs is missing).
            DataError: the template is no valid Jinja.
        """
        compiled = self._compiled
        try:
            text: str = compiled.render(**self._arguments(messages, tools, add_generation_prompt, extra))
        except Exception as error:  # templates are user code: any exception is theirs, and names the conversation
            raise RowError(f"chat template {self.name!r} refuses the conversation: {error}") from error
        return text

    def render_generations(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> list[tuple[int, int]]:
        """Character spans of the ``{% generation %}`` blocks, in the order of the text."""
        blocks: list[str] = []
        spans: list[tuple[int, int]] = []
        with self._compiled.environment.activate_tracker(blocks, spans):
            for block in self._compiled.generate(**self._arguments(messages, tools, False, extra)):
                blocks.append(block)
        return [(start, end) for start, end in spans]

    def _arguments(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        add_generation_prompt: bool,
        extra: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        return {
            "messages": messages,
            "tools": tools,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **self.variables,
            **(extra or {}),
        }


def resolve_template(
    tokenizer: Any, name: str | None, *, jinja: str | None = None, kwargs: Mapping[str, Any] | None = None
) -> ChatTemplate:
    """The template a dataset is rendered with.

    Args:
        name: ``tokenizer_default`` (also None), ``tokenizer_default_fallback_<name>``, ``jinja``, or a shipped name.
        jinja: template text, or the path of a file that holds it; used when ``name`` is ``jinja`` or None.

    Raises:
        DataError: unknown name, or the tokenizer brings no template.
    """
    source_name, source = _find_source(tokenizer, name, jinja)
    variables = {key: str(value) for key, value in tokenizer.special_tokens_map.items() if isinstance(value, str)}
    return ChatTemplate(source_name, source, {**variables, **(kwargs or {})})


def _find_source(tokenizer: Any, name: str | None, jinja: str | None) -> tuple[str, str]:
    if jinja and name in (None, "jinja"):
        return "chat_template_jinja", _read_jinja(jinja)
    if name == "jinja":
        raise DataError("chat_template: jinja needs chat_template_jinja", "give the template's text or its file's path")
    if name in (None, "tokenizer_default"):
        own = tokenizer_template(tokenizer)
        if own is None:
            raise DataError(
                "the tokenizer has no chat template of its own",
                "set chat_template to a shipped one, such as chatml, or chat_template: jinja with chat_template_jinja",
            )
        return "tokenizer_default", own
    assert name is not None
    if name.startswith(_FALLBACK_PREFIX):
        own = tokenizer_template(tokenizer)
        if own is not None:
            return "tokenizer_default", own
        name = name.removeprefix(_FALLBACK_PREFIX)
    return name, shipped_template(name)


def tokenizer_template(tokenizer: Any) -> str | None:
    """The tokenizer's own template; of several, the one called ``default``."""
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, Mapping):
        own = own.get("default") or next(iter(own.values()), None)
    return own or None


def shipped_template(name: str) -> str:
    """The text of a template that ships with ftl (``templates/chat/<name>.jinja``)."""
    try:
        folder = asset_path("templates/chat")
    except FileNotFoundError as error:
        raise DataError("this installation of ftl ships no chat templates") from error
    path = folder / f"{_ALIASES.get(name, name)}.jinja"
    if not path.is_file() or path.parent != folder:
        known = shipped_template_names()
        raise DataError(f"unknown chat_template {name!r}", did_you_mean(name, known) or f"known: {', '.join(known)}")
    return path.read_text(encoding="utf-8")


def shipped_template_names() -> list[str]:
    """Names that ``chat_template`` accepts beside the ``tokenizer_default`` family and ``jinja``."""
    names = {path.stem for path in asset_path("templates/chat").glob("*.jinja")}
    return sorted(names | set(_ALIASES))


def _read_jinja(text_or_path: str) -> str:
    if "\n" in text_or_path or "{" in text_or_path:
        return text_or_path
    path = Path(text_or_path).expanduser()
    if not path.is_file():
        raise DataError(f"chat_template_jinja: no file {text_or_path}", "give a jinja template's text or a file's path")
    return path.read_text(encoding="utf-8")


@dataclass(frozen=True)
class TemplateFacts:
    """What a small probe conversation tells about a template."""

    generation_prompt: str = ""
    """What ``add_generation_prompt`` adds, e.g. ``<|im_start|>assistant\\n``."""
    lead: str = ""
    """Whitespace between the inference prompt and an answer: the model has to produce it, so it is trained."""
    gap: str = ""
    """What stands between an answer and its end-of-turn token, mostly nothing."""
    terminator: str | None = None
    """The special token that ends an answer, when there is one."""
    handovers: Mapping[str, str] = field(default_factory=dict)
    """Role -> what an inference prompt has behind the content of a last message of that role."""
    sample: str = ""
    """The conversation that was rendered."""


_QUESTION, _ANSWER = "Qzq1", "Azq2"


def probe_template(template: ChatTemplate, special_tokens: Sequence[str]) -> TemplateFacts:
    """Render one question and one answer and read off what surrounds the answer."""
    question = {"role": "user", "content": _QUESTION}
    try:
        full = template.render([question, {"role": "assistant", "content": _ANSWER}])
        bare = template.render([question])
        prompt = template.render([question], add_generation_prompt=True)
    except RowError:
        return TemplateFacts()
    if _ANSWER not in full:
        return TemplateFacts()
    at = full.rfind(_ANSWER)
    lead = full[len(prompt) : at] if full.startswith(prompt) else ""
    suffix = full[at + len(_ANSWER) :]
    found = [(suffix.find(token), -len(token), token) for token in special_tokens if token and token in suffix]
    position, _, terminator = min(found, default=(0, 0, None))
    return TemplateFacts(
        generation_prompt=prompt[len(bare) :] if prompt.startswith(bare) else "",
        lead=lead if lead.isspace() else "",
        gap=suffix[:position],
        terminator=terminator,
        handovers=_handovers(template, prompt) if full.startswith(prompt) and not lead.strip() else {},
        sample=full,
    )


_CALL = {"id": "Czq3Czq39", "type": "function", "function": {"name": "Fzq4", "arguments": {}}}
_RESULT = "Rzq5"


def _handovers(template: ChatTemplate, prompt: str) -> dict[str, str]:
    handovers = {"user": prompt.rpartition(_QUESTION)[2]} if _QUESTION in prompt else {}
    conversation: list[Mapping[str, Any]] = [
        {"role": "user", "content": _QUESTION},
        {"role": "assistant", "content": "", "tool_calls": [_CALL]},
        {"role": "tool", "content": _RESULT, "name": "Fzq4", "tool_call_id": _CALL["id"]},
    ]
    try:
        text = template.render(conversation, add_generation_prompt=True)
    except RowError:  # a template without tools
        return handovers
    return {**handovers, "tool": text.rpartition(_RESULT)[2]} if _RESULT in text else handovers
