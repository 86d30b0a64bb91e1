"""Chat templates by name: where they come from, what they refuse, and what they would lose without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftl_config.rules.names import CHAT_TEMPLATES
from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.templates import resolve_template, shipped_template, shipped_template_names
from tests.unit.data.data_support import chat_row

SPECIAL_NAMES = {"jinja", "tokenizer_default"}
HELLO = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]


def test_every_name_that_a_config_may_give_is_shipped() -> None:
    assert set(CHAT_TEMPLATES) - SPECIAL_NAMES == set(shipped_template_names())


@pytest.fixture(scope="module")
def sentence_tokenizer(load_tokenizer: Any) -> Any:
    return load_tokenizer(bos="<s>", eos="</s>")


WRITTEN = [
    ("command_a", "<s>", "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|><|START_RESPONSE|>Hello<|END_RESPONSE|>"),
    ("exaone4", "[|user|]\nHi[|endofturn|]\n", "[|assistant|]\n<think>\n\n</think>\n\nHello[|endofturn|]\n"),
    ("gemma4", "<s><|turn>user\nHi<turn|>\n", "<|turn>model\nHello<turn|>\n"),
    ("granite", "<|start_of_role|>user<|end_of_role|>Hi<|end_of_text|>\n", "Hello<|end_of_text|>\n"),
    ("llama2", "<s>[INST] Hi [/INST]", " Hello </s>"),
    ("qwen2_vl", "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n", "Hello<|im_end|>\n"),
    ("vicuna", "<s>USER: Hi ", "ASSISTANT: Hello</s>"),
    ("zephyr", "<|user|>\nHi</s>\n", "<|assistant|>\nHello</s>\n"),
]


@pytest.mark.parametrize(("name", "start", "end"), WRITTEN)
def test_what_templates_write(name: str, start: str, end: str, sentence_tokenizer: Any) -> None:
    template = resolve_template(sentence_tokenizer, name)
    text = template.render(HELLO)
    assert text.startswith(start)
    assert end in text
    assert text.startswith(template.render(HELLO[:1], add_generation_prompt=True))


NO_TOOLS = ["alpaca", "deepseek_v2", "deepseek_v3", "exaone4", "gemma4", "llama2", "metharme", "vicuna", "zephyr"]


@pytest.mark.parametrize("name", NO_TOOLS)
def test_a_role_without_a_place_is_refused(name: str, sentence_tokenizer: Any) -> None:
    template = resolve_template(sentence_tokenizer, name)
    with pytest.raises(RowError, match="this template knows the roles system, user and assistant, not tool"):
        template.render([*HELLO, {"role": "tool", "content": "3"}])


def test_where_a_template_comes_from(tokenizer: Any, load_tokenizer: Any, tmp_path: Path) -> None:
    bare = load_tokenizer()
    bare.chat_template = None
    path = tmp_path / "own.jinja"
    path.write_text("{{ messages[0].content }}", encoding="utf-8")
    assert resolve_template(tokenizer, None).name == "tokenizer_default"
    assert resolve_template(tokenizer, "tokenizer_default_fallback_gemma").name == "tokenizer_default"
    assert resolve_template(bare, "tokenizer_default_fallback_gemma").source == shipped_template("gemma")
    assert resolve_template(bare, "jinja", jinja=str(path)).render(HELLO) == "Hi"
    assert resolve_template(bare, None, jinja="{{ messages[1].content }}").render(HELLO) == "Hello"
    assert resolve_template(bare, "pixtral").source == shipped_template("mistral_v3_tekken")
    for name, jinja, message in (
        (None, None, "the tokenizer has no chat template of its own"),
        ("jinja", None, "chat_template: jinja needs chat_template_jinja"),
        ("jinja", "nowhere.jinja", "chat_template_jinja: no file nowhere.jinja"),
        ("chatlm", None, "unknown chat_template 'chatlm'"),
    ):
        with pytest.raises(DataError, match=message):
            resolve_template(bare, name, jinja=jinja)
    with pytest.raises(DataError, match="does not compile, line 1"):
        resolve_template(bare, "jinja", jinja="{% if %}").render(HELLO)


def render(tokenizer: Any, row: Any, data: dict[str, Any] | None = None, **spec: Any) -> str:
    given = DatasetSpec(path="x", type="chat_template", **spec)
    convert = RowConverter(given, DataSection(**(data or {})), tokenizer, LengthRule(4096))
    return convert.render(convert.example(row)).text  # type: ignore[arg-type]


CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
TOOL_ROW: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "content": "4"},
        {"role": "assistant", "content": "Four."},
    ],
}
TOOLS = '[{"type": "function", "function": {"name": "add"}}]'


def test_tools_are_decoded_and_written(tokenizer: Any) -> None:
    row = {**TOOL_ROW, "tools": TOOLS}
    text = render(tokenizer, row, chat_template="qwen3")
    assert '{"type": "function", "function": {"name": "add"}}' in text
    assert '{"name": "add", "arguments": {"a": 2}}' in text
    one_by_one = {**TOOL_ROW, "tools": ['{"type": "function", "function": {"name": "add"}}']}
    assert render(tokenizer, one_by_one, chat_template="qwen3") == text


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ("{not json", "field 'tools' is text that is not JSON"),
        (["add"], "tool 1 of field 'tools' is text that is not JSON"),
        ([3], "tool 1 of field 'tools' is a number, not an object"),
    ],
)
def test_bad_tools(tools: Any, message: str, tokenizer: Any) -> None:
    with pytest.raises(RowError, match=message):
        render(tokenizer, {**TOOL_ROW, "tools": tools}, chat_template="qwen3")


THINK = "{% for m in messages %}{{ mood }}:{{ m.content }}<|im_end|>{% endfor %}"


def test_template_variables_of_a_dataset_come_before_those_of_the_config(tokenizer: Any) -> None:
    own = {"chat_template": "jinja", "chat_template_jinja": THINK}
    data = {"chat_template_kwargs": {"mood": "dull"}}
    assert render(tokenizer, chat_row("Hi", "Ho"), data, **own).startswith("dull:Hi")
    assert render(tokenizer, chat_row("Hi", "Ho"), data, **own, chat_template_kwargs={"mood": "gay"}).startswith(
        "gay:Hi"
    )


def test_names_of_the_human_and_the_model(tokenizer: Any) -> None:
    row = {"messages": [{"role": "Alice", "content": "Hi"}, {"role": "HAL", "content": "Ho"}]}
    text = render(tokenizer, row, chat_template="chatml", field_human="Alice", field_model="HAL")
    assert text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHo<|im_end|>\n"


def test_input_transform_changes_rows_first(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "def turn(row):\n    return {'messages': row['talk'][::-1]}\ndef odd(row):\n    return [row]\n"
    (tmp_path / "own_turn.py").write_text(code, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    row = {"talk": chat_row("Hi", "Ho")["messages"][::-1]}
    text = render(tokenizer, row, chat_template="chatml", input_transform="own_turn.turn")
    assert text == render(tokenizer, chat_row("Hi", "Ho"), chat_template="chatml")
    with pytest.raises(RowError, match=r"input_transform own_turn\.odd returned a list"):
        render(tokenizer, row, chat_template="chatml", input_transform="own_turn.odd")
    with pytest.raises(DataError, match=r"input_transform: nowhere\.turn: no module 'nowhere'"):
        render(tokenizer, row, chat_template="chatml", input_transform="nowhere.turn")
