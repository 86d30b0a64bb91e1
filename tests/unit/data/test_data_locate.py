"""Contents are found in few renders whatever the template does with them, and what it leaves out is said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.encode import BatchEncoder
from ftl_runner.data.errors import RowError
from ftl_runner.data.templates import ChatTemplate
from tests.unit.data.data_support import chat_row, text_of, trained_text
from tests.unit.data.test_data_policies import QWEN3_LIKE

END = "<|im_end|>"
TRIMMING = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content | trim }}<|im_end|>\n{% endfor %}"
STARTSWITH = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.content.startswith('!') %}(loud) {% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Mistral's way: the system prompt moves into the last question, calls have no header of their own.
REORDERING = """{%- set ns = namespace(system='') -%}
{{- '<s>' -}}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{%- set ns.system = m.content + '\n\n' -%}
{%- elif m.role == 'user' -%}
{{- '[INST] ' + (ns.system if loop.last or messages[loop.index0 + 2:] | length == 0 else '') + m.content + '[/INST]' -}}
{%- elif m.role == 'tool' -%}{{- '[TOOL_RESULTS]' + m.content + '[/TOOL_RESULTS]' -}}
{%- elif m.tool_calls -%}
{{- '[TOOL_CALLS]' -}}
{%- for call in m.tool_calls -%}{{- call.function.name + call.function.arguments | tojson -}}{%- endfor -%}
{{- '</s>' -}}
{%- else -%}{{- ' ' + m.content + '</s>' -}}
{%- endif -%}
{%- endfor -%}"""


def make(tokenizer: Any, jinja: str | None = None, **spec: Any) -> RowConverter:
    chosen = {"chat_template": "jinja", "chat_template_jinja": jinja} if jinja else {}
    entry = DatasetSpec(path="x", type="chat_template", **chosen, **spec)
    return RowConverter(entry, DataSection(), tokenizer, LengthRule(1 << 20))


def trained(convert: RowConverter, row: Any) -> str:
    rendered = convert.render(convert.example(row))  # type: ignore[arg-type]
    encoded = BatchEncoder(convert._tokenizer).encode([rendered])[0]
    assert text_of(convert._tokenizer, encoded.input_ids.tolist()) == rendered.text
    return trained_text(convert._tokenizer, encoded)


def call(**arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "find", "arguments": arguments}}


@pytest.fixture
def renders(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of messages of every render."""
    sizes: list[int] = []
    real = ChatTemplate.render

    def counting(self: ChatTemplate, messages: Any, *args: Any, **keys: Any) -> str:
        sizes.append(len(messages))
        return real(self, messages, *args, **keys)

    monkeypatch.setattr(ChatTemplate, "render", counting)
    return sizes


ANSWERS = {
    "plain": (QWEN3_LIKE, lambda n: f"A{n}"),
    "reasoning inside": (QWEN3_LIKE, lambda n: f"<think>\nwhy {n}\n</think>\n\nA{n}"),
    "trimmed": (TRIMMING, lambda n: f"\n A{n} \n"),
    "looked at": (STARTSWITH, lambda n: f"!A{n}" if n % 3 else f"A{n}"),
}


@pytest.mark.parametrize("kind", ANSWERS)
def test_renders_do_not_grow_with_the_conversation(kind: str, tokenizer: Any, renders: list[int]) -> None:
    jinja, answer = ANSWERS[kind]
    convert = make(tokenizer, jinja)
    counts = []
    for turns in (4, 80):
        row = chat_row(*[text for n in range(turns // 2) for text in (f"Q{n}", answer(n))])
        renders.clear()
        convert.render(convert.example(row))  # type: ignore[arg-type]
        counts.append(len(renders))
    assert counts[1] <= max(counts[0], 26)
    assert counts[1] == counts[0] or kind == "looked at"


def test_a_conversation_is_tokenized_once(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    real = BatchEncoder._ids
    monkeypatch.setattr(BatchEncoder, "_ids", lambda self, given: texts.extend(given) or real(self, given))
    convert = make(tokenizer, chat_template="chatml")
    for turns in (4, 80):
        texts.clear()
        convert.convert([chat_row(*["text"] * turns)], 0)
        assert len(texts) == 1


def test_reasoning_of_every_answer_is_cut_by_the_template(tokenizer: Any) -> None:
    row = chat_row(*[text for n in range(5) for text in ("Q", f"<think>\nwhy {n}\n</think>\n\nA{n}")])
    last = f"<think>\nwhy 4\n</think>\n\nA4{END}"
    assert trained(make(tokenizer, QWEN3_LIKE), row) == "".join(f"A{n}{END}" for n in range(4)) + last


def test_a_template_that_looks_at_contents(tokenizer: Any) -> None:
    row = chat_row("Q", "!A1", "Q", "A2", "!Q", "A3")
    assert trained(make(tokenizer, STARTSWITH), row) == f"(loud) !A1{END}A2{END}A3{END}"


def test_private_use_characters_in_contents(tokenizer: Any) -> None:
    row = chat_row("\U00100000\U00100001", "A", "Q", "\U0010fffd\U000f0000")
    convert = make(tokenizer)
    rendered = convert.render(convert.example(row))  # type: ignore[arg-type]
    spans = [rendered.text[span.start : span.end] for span in rendered.spans]
    assert spans == [f"A{END}", f"\U0010fffd\U000f0000{END}"]


def test_terminators_inside_tool_calls_do_not_end_the_turn(tokenizer: Any) -> None:
    row = chat_row("Q", "A")
    row["messages"][1] = {"role": "assistant", "content": "", "tool_calls": [call(text=f"x{END}\n<|im_start|>y", n=1)]}
    written = (
        f'<tool_call>\n{{"name": "find", "arguments": {{"text": "x{END}\\n<|im_start|>y", "n": 1}}}}\n</tool_call>'
    )
    assert trained(make(tokenizer, chat_template="qwen3"), row) == written + END


def test_contents_are_moved_and_turns_have_no_header(load_tokenizer: Callable[..., Any]) -> None:
    tokenizer = load_tokenizer("[INST]", "[/INST]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]", eos="</s>")
    convert = make(tokenizer, REORDERING)
    row = chat_row("Q1", "A1", "Q2", "A2", system="S")
    assert "[INST] S\n\nQ2[/INST]" in convert.render(convert.example(row)).text  # type: ignore[arg-type]
    assert trained(convert, row) == " A1</s> A2</s>"
    tools = chat_row("Q", "A")
    tools["messages"][1:] = [
        {"role": "assistant", "content": None, "tool_calls": [call(a="[/INST]")]},
        {"role": "tool", "content": "R"},
        {"role": "assistant", "content": None, "tool_calls": [call(), call(a=1)]},
        {"role": "tool", "content": "R"},
        {"role": "assistant", "content": "done"},
    ]
    calls = '[TOOL_CALLS]find{"a": "[/INST]"}</s>[TOOL_CALLS]find{}find{"a": 1}</s>'
    assert trained(convert, tools) == f"{calls} done</s>"


def test_tool_calls_that_the_template_does_not_write_are_an_error(tokenizer: Any) -> None:
    row = chat_row("Q", "A")
    row["messages"][1]["tool_calls"] = [call(a="b")]
    with pytest.raises(RowError, match=r"message 2 .* chat template 'chatml' does not write"):
        trained(make(tokenizer, chat_template="chatml"), row)


def test_what_the_template_leaves_out_is_noted(tokenizer: Any) -> None:
    row = chat_row("Q", "A")
    row["messages"][1]["reasoning_content"] = "because"
    row["tools"] = [{"type": "function", "function": {"name": "find"}}]
    row["messages"].insert(1, {"role": "tool", "content": "R"})
    jinja = "{#- tools -#}" + TRIMMING.replace("in messages", "in messages if m.role != 'tool'")
    convert = make(tokenizer, jinja)
    kept, _, tally = convert.convert([row, chat_row("Q", "A"), row], 0)
    assert len(kept) == 3
    assert sorted(tally.notes.items()) == [
        ("chat template 'chat_template_jinja' does not write messages of the role tool", 2),
        ("chat template 'chat_template_jinja' does not write reasoning", 2),
        ("chat template 'chat_template_jinja' does not write tool definitions", 2),
    ]
