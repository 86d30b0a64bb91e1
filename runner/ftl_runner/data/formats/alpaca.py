"""The alpaca family: an instruction, sometimes an input, and an answer, in a written prompt."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.errors import DataError, RowError, did_you_mean
from ftl_runner.data.formats.registry import Format
from ftl_runner.data.messages import Segment, Segments
from ftl_runner.data.rows import Row, optional_text, require, require_text


@dataclass(frozen=True)
class PromptStyle:
    """How a prompt is written; ``{instruction}``, ``{input}`` and ``{system}`` stand for the row's texts."""

    with_input: str
    without_input: str
    system_format: str = "{system}"
    system: str = ""
    system_without_input: str = ""

    def write(self, instruction: str, given: str = "", system: str | None = None) -> str:
        """The prompt, up to where the answer begins."""
        default = self.system if given else self.system_without_input
        head = default if system is None else system
        form = self.with_input if given else self.without_input
        body = fill(form, instruction=instruction, input=given)
        return (fill(self.system_format, system=head) if head else "") + body


def fill(form: str, **values: str) -> str:
    """``str.format`` for the given names alone: braces in templates and texts stay as they are."""
    parts: list[str] = []
    while form:
        found = [(form.find(f"{{{name}}}"), name) for name in values if f"{{{name}}}" in form]
        if not found:
            break
        at, name = min(found)
        parts += [form[:at], values[name]]
        form = form[at + len(name) + 2 :]
    return "".join([*parts, form])


_TASK = "Below is an instruction that describes a task"
_REQUEST = "Write a response that appropriately completes the request.\n\n"
_SYSTEM = f"{_TASK}, paired with an input that provides further context. {_REQUEST}"
_SYSTEM_ALONE = f"{_TASK}. {_REQUEST}"
_USER = "<|im_start|>user\n{instruction}"
_REPLY = "<|im_end|>\n<|im_start|>assistant\n"

STYLES = {
    "instruct": PromptStyle(
        "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
        "### Instruction:\n{instruction}\n\n### Response:\n",
        "{system}",
        _SYSTEM,
        _SYSTEM_ALONE,
    ),
    "chat": PromptStyle(
        "USER: {instruction}\n{input}\nASSISTANT:",
        "USER: {instruction}\nASSISTANT:",
        "{system}",
        _SYSTEM,
        _SYSTEM_ALONE,
    ),
    "chatml": PromptStyle(
        f"{_USER}\n{{input}}{_REPLY}",
        f"{_USER}{_REPLY}",
        "<|im_start|>system\n{system}<|im_end|>\n",
        _SYSTEM.strip(),
        _SYSTEM_ALONE.strip(),
    ),
    "phi": PromptStyle(
        "<|user|>\n{instruction}<|end|>{input}<|assistant|>",
        "<|user|>\n{instruction}<|end|><|assistant|>",
        "<|system|>\n{system}<|end|>\n",
        _SYSTEM.strip(),
        _SYSTEM_ALONE.strip(),
    ),
}
_CONCISE = "Write a concise response that appropriately completes the request.\n\n"


def make_segments(prompt: str, answer: str) -> Segments:
    """A prompt that is not trained and an answer that is."""
    return Segments((Segment(prompt, False), Segment(answer, True)))


def _style(variant: str, default: str = "instruct") -> PromptStyle:
    name = variant or default
    if name not in STYLES:
        raise DataError(f"unknown prompt style {name!r}", did_you_mean(name, STYLES) or f"known: {', '.join(STYLES)}")
    return STYLES[name]


@dataclass(frozen=True)
class _InstructionFormat:
    """Instruction, input and output columns written in one style."""

    style: PromptStyle
    field_instruction: str = "instruction"
    field_input: str | None = "input"
    field_output: str = "output"
    field_system: str | None = None

    def __call__(self, row: Row) -> Segments:
        instruction = require_text(row, self.field_instruction)
        given = optional_text(row, self.field_input)
        system = optional_text(row, self.field_system) if self.field_system else None
        answer = require_text(row, self.field_output)
        return make_segments(self.style.write(instruction, given, system), answer)


def _instruction_format(spec: DatasetSpec, style: PromptStyle, names: dict[str, str | None]) -> Format:
    return _InstructionFormat(
        style,
        field_instruction=spec.field_instruction or names.get("instruction") or "instruction",
        field_input=spec.field_input or names.get("input", "input"),
        field_output=spec.field_output or names.get("output") or "output",
        field_system=spec.field_system or names.get("system"),
    )


def alpaca(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """instruction, input (may be empty or missing), output."""
    return _instruction_format(spec, _style(variant), {})


def concise(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """As alpaca, asking for a concise answer."""
    return _instruction_format(
        spec,
        replace(
            _style(variant),
            system=_SYSTEM.replace(_REQUEST, _CONCISE),
            system_without_input=_SYSTEM_ALONE.replace(_REQUEST, _CONCISE),
        ),
        {},
    )


def question_answer(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """question, answer."""
    return _instruction_format(spec, _style(variant), {"instruction": "question", "input": None, "output": "answer"})


def camel(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """message_1, message_2."""
    return _instruction_format(
        spec, _style(variant), {"instruction": "message_1", "input": None, "output": "message_2"}
    )


def no_prompt(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """As alpaca, without the opening sentence."""
    return _instruction_format(spec, replace(_style(variant), system="", system_without_input=""), {})


def with_system(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """system, instruction, input, output: the row's system prompt in place of the opening sentence."""
    style = _style(variant)
    if style.system_format == "{system}":
        style = replace(style, system_format="{system}\n\n")
    return _instruction_format(spec, style, {"system": "system"})


def open_orca(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """system_prompt, question, response."""
    style = _style(variant)
    if style.system_format == "{system}":
        style = replace(style, system_format="SYSTEM: {system}\n\n")
    names: dict[str, str | None] = {
        "system": "system_prompt",
        "instruction": "question",
        "input": None,
        "output": "response",
    }
    return _instruction_format(spec, style, names)


def gpteacher(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """instruction, input, response."""
    return _instruction_format(spec, _style(variant), {"output": "response"})


def oasst(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """INSTRUCTION, RESPONSE."""
    return _instruction_format(
        spec, _style(variant), {"instruction": "INSTRUCTION", "input": None, "output": "RESPONSE"}
    )


def orcamini(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """system, instruction, output in the Orca Mini layout."""
    style = PromptStyle(
        "### User:\n{instruction}\n\n### Input:\n{input}\n\n### Response:\n",
        "### User:\n{instruction}\n\n### Response:\n",
        "### System:\n{system}\n\n",
    )
    return _instruction_format(spec, style, {"system": "system"})


def jeopardy(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """category, question, answer: the answer comes as a question."""
    style = replace(
        _style(variant),
        system="Below is a Jeopardy clue paired with input providing the category of the clue. Write a concise "
        "response that best answers the clue given the category.\n\n",
    )

    def convert(row: Row) -> Segments:
        answer = require_text(row, "answer").strip()
        prompt = style.write(require_text(row, "question"), optional_text(row, "category"))
        return make_segments(prompt, f"what is {answer}")

    return convert


def reflection(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """instruction, input, output, reflection, corrected: the reflection and what came of it are trained too."""
    style = _style(variant)

    def convert(row: Row) -> Segments:
        prompt = style.write(require_text(row, "instruction"), optional_text(row, "input"))
        thought = f"\n\n### Agent Reflection:\n{require_text(row, 'reflection')}"
        answer = f"{require_text(row, 'output')}{thought}\n\n### Final Response:\n{require_text(row, 'corrected')}"
        return make_segments(prompt, answer)

    return convert


def summarize_tldr(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """article, summary."""

    def convert(row: Row) -> Segments:
        return make_segments(f"{require_text(row, 'article')}\nTL;DR:", require_text(row, "summary"))

    return convert


def _choices(row: Row) -> str:
    listed = require(row, "choices")
    if not isinstance(listed, list | tuple) or not all(isinstance(choice, str) for choice in listed):
        raise RowError("field 'choices' is not a list of texts")
    return "".join(f'- "{choice}"\n' for choice in listed)


def explain_choice(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """question, choices, explanation: why the right one is right."""

    def convert(row: Row) -> Segments:
        head = "Choose the answer that best answers the question. Explain your reasoning.\n"
        prompt = f"{head}{require_text(row, 'question')}\n{_choices(row)}"
        return make_segments(prompt, require_text(row, "explanation"))

    return convert


def concise_choice(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """question, choices, solution."""

    def convert(row: Row) -> Segments:
        head = "Choose the answer that best answers the question. Be concise in your response.\n"
        prompt = f"{head}{require_text(row, 'question')}\n{_choices(row)}"
        return make_segments(prompt, require_text(row, "solution"))

    return convert


def metharme(spec: DatasetSpec, data: DataSection, variant: str) -> Format:
    """prompt, generation: the prompt brings its own markers."""

    def convert(row: Row) -> Segments:
        return make_segments(require_text(row, "prompt"), require_text(row, "generation"))

    return convert
