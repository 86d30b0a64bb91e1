"""What is trained: eos and eot policies, roles, per-message and per-span wishes, inputs, reasoning, tools."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import pytest

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.encode import BatchEncoder
from ftl_runner.data.errors import DataError, RowError
from tests.unit.data.data_support import chat_row, text_of, trained_text

ROW = chat_row("Q1", "A1", "Q2", "A2", system="S")
END = "<|im_end|>"


def render(tokenizer: Any, row: Any, data: dict[str, Any] | None = None, **spec: Any) -> tuple[str, str]:
    """The whole text and the trained text."""
    entry = DatasetSpec(path="x", **{"type": "chat_template", "chat_template": "chatml", **spec})
    convert = RowConverter(entry, DataSection(**(data or {})), tokenizer, LengthRule(4096))
    rendered = convert.render(convert.example(row))  # type: ignore[arg-type]
    encoded = BatchEncoder(tokenizer).encode([rendered])[0]
    assert text_of(tokenizer, encoded.input_ids.tolist()) == rendered.text
    return rendered.text, trained_text(tokenizer, encoded)


@pytest.mark.parametrize(
    ("spec", "data", "wanted"),
    [
        ({}, {}, f"A1{END}A2{END}"),
        ({"train_on_eos": "none"}, {}, "A1A2"),
        ({"train_on_eos": "last"}, {}, f"A1A2{END}"),
        ({"train_on_eos": "all"}, {}, f"{END}{END}A1{END}{END}A2{END}"),
        ({"roles_to_train": ["user"]}, {}, f"Q1{END}Q2{END}"),
        ({"roles_to_train": ["user", "assistant"], "train_on_eos": "none"}, {}, "Q1A1Q2A2"),
        ({"roles_to_train": []}, {}, f"A2{END}"),
        ({}, {"train_on_inputs": True}, f"S{END}Q1{END}A1{END}Q2{END}A2{END}"),
        ({"drop_system_message": True, "train_on_eos": "all"}, {}, f"{END}A1{END}{END}A2{END}"),
    ],
)
def test_policies(tokenizer: Any, spec: dict[str, Any], data: dict[str, Any], wanted: str) -> None:
    assert render(tokenizer, ROW, data, **spec)[1] == wanted


def test_eot_and_eos_have_policies_of_their_own(load_tokenizer: Callable[..., Any]) -> None:
    tokenizer = load_tokenizer("<|eot|>", eos="<|endoftext|>")
    jinja = "{% for m in messages %}{{ m.role }}:{{ m.content }}<|eot|>{% endfor %}{{ eos_token }}"
    spec = {"chat_template": "jinja", "chat_template_jinja": jinja}
    data = {"eot_tokens": ["<|eot|>"]}
    assert render(tokenizer, ROW, data, **spec)[1] == "A1<|eot|>A2<|eot|><|endoftext|>"
    assert render(tokenizer, ROW, data, **spec, train_on_eot="none")[1] == "A1A2<|endoftext|>"
    assert render(tokenizer, ROW, data, **spec, train_on_eos="none")[1] == "A1A2"
    assert render(tokenizer, ROW, data, **spec, train_on_eos="none", train_on_eot="turn")[1] == "A1<|eot|>A2<|eot|>"


def test_an_eot_token_must_be_one_token(tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"is \d+ tokens"):
        render(tokenizer, ROW, {"eot_tokens": ["not one token"]})


def test_an_eot_token_that_the_template_never_writes_warns(load_tokenizer: Callable[..., Any]) -> None:
    tokenizer = load_tokenizer("<|eot|>", eos=END)
    spec = DatasetSpec(path="x", type="chat_template", chat_template="chatml")
    convert = RowConverter(spec, DataSection(eot_tokens=(END, "<|eot|>")), tokenizer, LengthRule(64))
    assert convert.warnings == ["eot_tokens: chat template 'chatml' never writes '<|eot|>'"]


def test_eos_among_eot_tokens_has_one_policy(tokenizer: Any) -> None:
    data = {"eot_tokens": [END]}
    with pytest.raises(DataError, match=r"train_on_eos \(none\) and train_on_eot \(all\) differ"):
        render(tokenizer, ROW, data, train_on_eos="none", train_on_eot="all")
    assert render(tokenizer, ROW, data, train_on_eos="none", train_on_eot="none")[1] == "A1A2"


def test_several_eot_tokens(load_tokenizer: Callable[..., Any]) -> None:
    tokenizer = load_tokenizer("<|eot|>", "<|eom|>", eos="<|endoftext|>")
    jinja = (
        "{% for m in messages %}{{ m.role }}:{{ m.content }}"
        "{% if m.more %}<|eom|>{% else %}<|eot|>{% endif %}{% endfor %}"
    )
    row = chat_row("Q1", "A1", "Q2", "A2")
    row["messages"][1]["more"] = True
    spec = {"chat_template": "jinja", "chat_template_jinja": jinja}
    assert render(tokenizer, row, {"eot_tokens": ["<|eot|>", "<|eom|>"]}, **spec)[1] == "A1<|eom|>A2<|eot|>"
    last = render(tokenizer, row, {"eot_tokens": ["<|eot|>", "<|eom|>"]}, **spec, train_on_eot="last")
    assert last[1] == "A1A2<|eot|>"


def test_a_messages_own_wish_wins(tokenizer: Any) -> None:
    row = chat_row("Q1", "A1", "Q2", "A2")
    for message, wish in zip(row["messages"], (True, False, None, None), strict=True):
        message["weight"] = wish
    assert render(tokenizer, row, message_field_training="weight")[1] == f"Q1{END}A2{END}"


def test_training_detail_trains_characters(tokenizer: Any) -> None:
    row = chat_row("Q", "keep this, not that")
    row["messages"][1]["detail"] = [
        {"begin_offset": 0, "end_offset": 8, "train": True},
        {"begin_offset": 9, "end_offset": 18, "train": False},
    ]
    assert render(tokenizer, row, message_field_training_detail="detail")[1] == f"keep this{END}"
    row["messages"][1]["detail"] = [{"begin_offset": 2, "end_offset": 8, "train": True}]
    assert render(tokenizer, row, message_field_training_detail="detail")[1] == f" this{END}"


def test_content_in_parts(tokenizer: Any) -> None:
    row = chat_row("Q", "x")
    row["messages"][1]["content"] = [
        {"type": "text", "text": "wrong step", "train": False},
        {"type": "text", "text": " right step"},
    ]
    assert render(tokenizer, row)[1] == f" right step{END}"


def test_names_of_roles_and_fields(tokenizer: Any) -> None:
    row = {"conversations": [{"from": "human", "value": "Q"}, {"from": "bot", "value": "A"}]}
    spec = {
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
        "roles": {"user": ["human"], "assistant": ["bot"]},
    }
    assert render(tokenizer, row, **spec)[1] == f"A{END}"
    sharegpt = {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}
    assert render(tokenizer, sharegpt, type="llama2_chat")[1] == f"A{END}"


def test_system_column_and_default_system_message(tokenizer: Any) -> None:
    row = chat_row("Q", "A")
    assert "system\nBe brief.<|im_end|>" in render(tokenizer, {**row, "system": "Be brief."})[0]
    assert "system\nBe kind.<|im_end|>" in render(tokenizer, row, {"default_system_message": "Be kind."})[0]


QWEN3_LIKE = """{%- set ns = namespace(last=0) -%}
{%- for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor -%}
{%- for m in messages -%}
{%- if m.role == 'assistant' -%}
{%- set content = m.content -%}{%- set thought = '' -%}
{%- if m.reasoning_content -%}{%- set thought = m.reasoning_content -%}
{%- elif '</think>' in content -%}
{%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}
{%- set content = content.split('</think>')[-1].lstrip('\\n') -%}
{%- endif -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if loop.index0 > ns.last -%}{{- '<think>\\n' + thought.strip('\\n') + '\\n</think>\\n\\n' -}}{%- endif -%}
{{- content.lstrip('\\n') -}}
{%- for call in m.tool_calls or [] -%}
{{- '\\n<tool_call>' + call.function.arguments | tojson + '</tool_call>' -}}
{%- endfor -%}
{{- '<|im_end|>\\n' -}}
{%- else -%}
{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"""
REASONING = {"chat_template": "jinja", "chat_template_jinja": QWEN3_LIKE}


def test_reasoning_is_trained_where_the_template_writes_it(tokenizer: Any) -> None:
    row = chat_row("Q1", "A1", "Q2", "A2")
    row["messages"][1]["reasoning_content"] = "because"
    row["messages"][3]["reasoning_content"] = "\nfor this reason\n"
    text, trained = render(tokenizer, row, **REASONING)
    assert "because" not in text
    assert trained == f"A1{END}<think>\nfor this reason\n</think>\n\nA2{END}"


def test_reasoning_inside_the_content_of_a_template_that_takes_it_apart(tokenizer: Any) -> None:
    row = chat_row("Q1", "<think>\nold\n</think>\n\nA1", "Q2", "<think>\nnew\n</think>\n\nA2")
    assert render(tokenizer, row, **REASONING)[1] == f"A1{END}<think>\nnew\n</think>\n\nA2{END}"


def test_split_thinking_moves_reasoning_to_its_field(tokenizer: Any) -> None:
    row = chat_row("Q", "<think>\nwhy\n</think>\n\nA")
    spec = {"chat_template": "qwen3", "split_thinking": True}
    assert render(tokenizer, row, **spec)[1] == f"<think>\nwhy\n</think>\n\nA{END}"


CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
TOOL_ROW = {
    "tools": '[{"type": "function", "function": {"name": "add", "parameters": {"a": "int"}, "strict": null}}]',
    "messages": [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "It is 3."},
    ],
}


def test_tool_calls_are_trained_and_their_results_are_not(tokenizer: Any) -> None:
    text, trained = render(tokenizer, TOOL_ROW, chat_template="qwen2_5")
    call = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
    assert trained == f"{call}{END}It is 3.{END}"
    assert '"parameters": {"a": "int"}' in text
    assert "strict" not in text


def test_generation_tags_decide_where_a_turn_begins_and_ends(tokenizer: Any) -> None:
    jinja = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>bot\n"
        "{% generation %}!{{ m.content }}<|im_end|>{% endgeneration %}\n"
        "{% else %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    )
    spec = {"chat_template": "jinja", "chat_template_jinja": jinja}
    assert render(tokenizer, ROW, **spec)[1] == f"!A1{END}!A2{END}"
    assert render(tokenizer, ROW, **spec, train_on_eos="none")[1] == "!A1!A2"


@pytest.mark.parametrize(
    ("trim", "answer", "wanted"),
    [
        ("m.content | trim", "\n\n A \n", "A"),
        ("m.content.strip('\\n')", "\n  A  \n", "  A  "),
        ("m.content.rstrip()", " \n A\n\n", " \n A"),
        ("m.content.lstrip()", " \n A \n", "A \n"),
    ],
)
def test_templates_that_trim(tokenizer: Any, trim: str, answer: str, wanted: str) -> None:
    jinja = f"{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n\n{{{{ {trim} }}}}\n<|im_end|>{{% endfor %}}"
    spec = {"chat_template": "jinja", "chat_template_jinja": jinja}
    assert render(tokenizer, chat_row(" q ", answer), **spec)[1] == f"{wanted}\n{END}"


def test_a_turn_that_the_template_drops_is_an_error(tokenizer: Any) -> None:
    jinja = "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}"
    with pytest.raises(RowError, match=r"message 2 \(assistant\) cannot be found"):
        render(tokenizer, chat_row("Q", "A"), chat_template="jinja", chat_template_jinja=jinja)


def test_a_template_without_an_end_of_turn_warns(tokenizer: Any) -> None:
    jinja = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    spec = DatasetSpec(path="x", type="chat_template", chat_template="jinja", chat_template_jinja=jinja)
    convert = RowConverter(spec, DataSection(), tokenizer, LengthRule(64))
    assert any("will not learn to stop" in text for text in convert.warnings)


@cache
def made_detail(tokenizer: Any) -> RowConverter:
    spec = DatasetSpec(path="x", type="chat_template", chat_template="chatml", message_field_training_detail="detail")
    return RowConverter(spec, DataSection(), tokenizer, LengthRule(4096))


@cache
def made_encoder(tokenizer: Any) -> BatchEncoder:
    return BatchEncoder(tokenizer)


def truncated(tokenizer: Any, row: Any, limit: int, **spec: Any) -> tuple[str, int]:
    """The trained text of a row that is cut, and how many tokens were masked for it."""
    entry = DatasetSpec(path="x", type="chat_template", chat_template="chatml", **spec)
    convert = RowConverter(entry, DataSection(), tokenizer, LengthRule(limit, "truncate"))
    kept, rejected, tally = convert.convert([row], 0)
    assert not rejected
    if not kept:
        assert tally.dropped == {"no_trained_token": 1}
        return "", tally.masked_tokens
    assert len(kept[0].input_ids) == min(limit, len(kept[0].input_ids))
    return trained_text(tokenizer, kept[0]), tally.masked_tokens


def test_truncation_trains_whole_turns_only(tokenizer: Any) -> None:
    row = chat_row("Q1", "one two three", "Q2", "four five six")
    seen = {truncated(tokenizer, row, limit)[0] for limit in range(3, 40)}
    assert seen == {"", f"one two three{END}", f"one two three{END}four five six{END}"}


def test_truncation_masks_all_details_of_a_cut_turn(tokenizer: Any) -> None:
    row = chat_row("Q", "x")
    parts = [("one", True), (" two three four", False), (" five", True)]
    row["messages"][1]["content"] = [{"text": text, "train": train} for text, train in parts]
    seen = {truncated(tokenizer, row, limit)[0] for limit in range(3, 40)}
    assert seen == {"", f"one five{END}"}


def test_truncation_of_tokenized_rows(tokenizer: Any) -> None:
    convert = RowConverter(DatasetSpec(path="x"), DataSection(), tokenizer, LengthRule(6, "truncate"))
    rows = [
        {"input_ids": list(range(9)), "labels": [-100, 1, 2, -100, 4, 5, 6, 7, -100]},
        {"input_ids": list(range(9)), "labels": list(range(9))},
    ]
    kept, _, tally = convert.convert(rows, 0)  # type: ignore[arg-type]
    assert [row.labels.tolist() for row in kept] == [[-100, 1, 2, -100, -100, -100], [-100, 1, 2, 3, 4, 5]]
    assert tally.masked_tokens == 2


def test_details_take_whole_tokens_inside_them(tokenizer: Any) -> None:
    text = "alpha \u00e9t\u00e9 beta-gamma, \u4f60\u597d world 12345"
    pieces = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    for start in range(0, len(text), 2):
        for stop in range(start + 1, len(text), 3):
            row = chat_row("Q", text)
            row["messages"][1]["detail"] = [{"begin_offset": start, "end_offset": stop - 1, "train": True}]
            inside = [text[a:b] for a, b in dict.fromkeys(pieces) if start <= a and b <= stop]
            convert = made_detail(tokenizer)
            rendered = convert.render(convert.example(row))  # type: ignore[arg-type]
            encoded = made_encoder(tokenizer).encode([rendered])[0]
            assert trained_text(tokenizer, encoded) == "".join(inside) + END
