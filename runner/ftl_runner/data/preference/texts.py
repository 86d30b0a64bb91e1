"""A preference example -> its texts, cut exactly where the prompt ends.

Prompt and answer come out of the machinery of supervised fine-tuning: one rendering with one trained span, the answer
with its end-of-turn token. What stands before it has to be the inference prompt, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.errors import RowError
from ftl_runner.data.messages import Answer, Conversation, Message, Prompt, Segment, Segments, Steps
from ftl_runner.data.templates import ChatTemplate
from ftl_runner.data.turns import Rendered, Span, TurnRenderer

_TOOLS = re.compile(r"\btools\b")


class TextWriter:
    """Writes prompts and answers of one dataset entry."""

    def __init__(self, spec: DatasetSpec, data: DataSection, tokenizer: Any, rule: LengthRule) -> None:
        plain = {"roles_to_train": None, "train_on_eos": None, "train_on_eot": None}
        self._spec = spec.model_copy(update={"type": "completion", "input_transform": None, **plain})
        self._data = data.model_copy(update={"train_on_inputs": False})
        self._tokenizer, self._rule = tokenizer, rule
        self._converters: dict[str | None, tuple[RowConverter, TurnRenderer | None]] = {}

    @property
    def template(self) -> ChatTemplate | None:
        """The template that was used last, for the report."""
        used = [renderer for _, renderer in self._converters.values() if renderer is not None]
        return used[-1].template if used else None

    @property
    def warnings(self) -> list[str]:
        return [text for converter, _ in self._converters.values() for text in converter.warnings]

    def open(self, template: str | None) -> None:
        """Resolve the template ahead of the rows: an unknown one is no matter of a row."""
        self._renderer(template)

    def answered(self, prompt: Prompt, answers: Sequence[Answer]) -> tuple[Rendered, ...]:
        """For each answer one text, of the prompt and the answer; its one span is the answer with its end.

        Raises:
            RowError: the template refuses the messages, or writes another prompt here than for inference.
        """
        if prompt.conversation is None:
            return tuple(self._plain_answered(prompt.text, answer) for answer in answers)
        renderer = self._renderer(prompt.template)
        conversation = prompt.conversation
        silent = [replace(message, train=False, detail=None) for message in conversation.messages]
        conversation = replace(conversation, messages=tuple(silent))
        asked = self._inference_prompt(renderer, conversation)
        return tuple(self._chat_answered(renderer, conversation, answer, asked) for answer in answers)

    def _plain_answered(self, prompt: str, answer: Answer) -> Rendered:
        assert isinstance(answer, str), "text is answered with text"
        rendered = self._plain().render(Segments((Segment(prompt, False), Segment(answer, True))))
        return Rendered(rendered.text, rendered.spans[-1:])

    def _chat_answered(
        self, renderer: TurnRenderer, conversation: Conversation, answer: Answer, asked: str
    ) -> Rendered:
        assert isinstance(answer, Message), "messages are answered with a message"
        whole = replace(conversation, messages=(*conversation.messages, replace(answer, train=True, detail=None)))
        rendered = renderer.render(whole)
        start, stop = (rendered.spans[0].start, rendered.spans[-1].end) if rendered.spans else (0, 0)
        if rendered.text[:start] != asked:
            raise RowError(
                f"chat template {renderer.template.name!r} writes another prompt before an answer than for inference",
                "set chat_template_kwargs (enable_thinking, ...) or another chat_template, so that both agree",
            )
        return replace(rendered, text=rendered.text[:stop], spans=[Span(start, stop, 0)])

    def prompt(self, prompt: Prompt) -> Rendered:
        """The inference prompt, without a span."""
        if prompt.conversation is None:
            rendered = self._plain().render(Segments((Segment(prompt.text, False), Segment("x", True))))
            return Rendered(rendered.text[: rendered.spans[-1].start], [])
        renderer = self._renderer(prompt.template)
        if prompt.conversation.tools and not _TOOLS.search(renderer.template.source):
            raise RowError(
                f"chat template {renderer.template.name!r} does not write tools",
                "choose a chat_template with tools, such as qwen3, or leave the column of tools out",
            )
        return Rendered(self._inference_prompt(renderer, prompt.conversation), [])

    def steps(self, steps: Steps, separator: str) -> Rendered:
        """Problem and steps as one text; each step has a span and its separator another, with the step's number."""
        rendered = self._plain().render(Segments((Segment(steps.prompt, False), Segment("x", True)), add_eos=False))
        text = rendered.text[: rendered.spans[-1].start]
        spans: list[Span] = []
        for number, step in enumerate(steps.steps):
            for part in (step, separator):
                if part:
                    spans.append(Span(len(text), len(text) + len(part), number))
                    text += part
        return Rendered(text, spans)

    def _inference_prompt(self, renderer: TurnRenderer, conversation: Conversation) -> str:
        return renderer.template.render(
            _fields(conversation.messages),
            conversation.tools,
            add_generation_prompt=True,
            extra=conversation.template_kwargs,
        )

    def _plain(self) -> RowConverter:
        return self._converter(None)

    def _converter(self, template: str | None) -> RowConverter:
        if template not in self._converters:
            spec = self._spec
            if template is not None:
                spec = spec.model_copy(update={"chat_template": template, "chat_template_jinja": None})
            self._converters[template] = (RowConverter(spec, self._data, self._tokenizer, self._rule), None)
        return self._converters[template][0]

    def _renderer(self, template: str | None) -> TurnRenderer:
        converter = self._converter(template)
        renderer = self._converters[template][1]
        if renderer is None:
            renderer = converter.turn_renderer()
            self._converters[template] = (converter, renderer)
        return renderer


def _fields(messages: Sequence[Message]) -> list[Any]:
    return [message.fields for message in messages]
