"""Every registered type reads its own sample row; what a row lacks is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.encode import BatchEncoder
from ftl_runner.data.errors import DataError, RowError
from ftl_runner.data.formats.registry import REGISTRY, find_format
from ftl_runner.data.messages import Conversation, TokenRow
from tests.unit.data.data_support import trained_text

EOS = "<|im_end|>"


def both(tokenizer: Any, row: Any, data: dict[str, Any] | None = None, **spec: Any) -> tuple[str, str]:
    """Text and trained text of a row."""
    convert = RowConverter(DatasetSpec(path="x", **spec), DataSection(**(data or {})), tokenizer, LengthRule(4096))
    rendered = convert.render(convert.example(row))  # type: ignore[arg-type]
    return rendered.text, trained_text(tokenizer, BatchEncoder(tokenizer).encode([rendered])[0])


@pytest.mark.parametrize("name", sorted(REGISTRY))
def test_every_type_converts_its_sample_into_trained_tokens(name: str, tokenizer: Any) -> None:
    data = DataSection(chat_template="chatml")
    convert = RowConverter(DatasetSpec(path="x", type=name), data, tokenizer, LengthRule(4096))
    kept, rejected, tally = convert.convert([REGISTRY[name].sample], 0)
    assert not rejected
    assert len(kept) == 1, tally.dropped
    assert (kept[0].labels != -100).any()


HEAD = (
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\nAdd 1 and 1.\n\n### Response:\n"
)


def test_alpaca(tokenizer: Any) -> None:
    row = {"instruction": "Add 1 and 1.", "input": "", "output": "2"}
    assert both(tokenizer, row, type="alpaca") == (f"{HEAD}2{EOS}", f"2{EOS}")
    assert both(tokenizer, row, {"train_on_inputs": True}, type="alpaca")[1] == f"{HEAD}2{EOS}"[5:]
    assert both(tokenizer, row, type="alpaca", train_on_eos="none")[1] == "2"
    assert both(tokenizer, row, type="alpaca:chat")[0].endswith(f"USER: Add 1 and 1.\nASSISTANT:2{EOS}")


def test_alpaca_with_input_and_braces(tokenizer: Any) -> None:
    row = {"instruction": "Fill {input}.", "input": "{instruction}", "output": "{output}"}
    text, trained = both(tokenizer, row, type="alpaca")
    assert "### Instruction:\nFill {input}.\n\n### Input:\n{instruction}\n\n### Response:\n" in text
    assert trained == "{output}" + EOS


def test_bos_is_added_where_the_tokenizer_adds_it(load_tokenizer: Any) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(bos="<|endoftext|>", eos="<|im_end|>")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    assert both(tokenizer, {"text": "Hello"}, type="completion") == (f"<|endoftext|>Hello{EOS}", f"Hello{EOS}")


def test_the_default_function_of_an_axolotl_module() -> None:
    assert find_format(DatasetSpec(path="x", type="completion.load"), DataSection())({"text": "Hi"})
    with pytest.raises(DataError, match=r"unknown dataset type 'nowhere\.load'"):
        find_format(DatasetSpec(path="x", type="nowhere.load"), DataSection())


def test_reasoning_in_parts() -> None:
    parts = [{"text": "Hm. "}, {"text": "Yes."}]
    message = {"role": "assistant", "content": "2", "reasoning_content": parts}
    made = convert({"messages": [{"role": "user", "content": "1 + 1?"}, message]}, type="chat_template")
    assert isinstance(made, Conversation)
    assert made.messages[1].fields["reasoning_content"] == "Hm. Yes."
    parts[0]["train"] = False  # type: ignore[assignment]
    with pytest.raises(RowError, match="reasoning_content of message 2 has a part that is not to be trained"):
        convert({"messages": [{"role": "user", "content": "1 + 1?"}, message]}, type="chat_template")


def test_reflection_and_creative_rows(tokenizer: Any) -> None:
    text, trained = both(tokenizer, REGISTRY["reflection"].sample, type="reflection")
    assert text.endswith("### Response:\n" + trained)
    assert trained == f"3\n\n### Agent Reflection:\nThat is too much.\n\n### Final Response:\n2{EOS}"
    row = REGISTRY["creative_acr.load_critique"].sample
    assert both(tokenizer, row, type="creative_acr.load_answer")[1] == f"Heliotrope.{EOS}"
    assert both(tokenizer, row, type="creative_acr.load_critique")[1] == (
        "scores:\n  creativity: 3\ncritiques:\n  creativity:\n    explanation: Common.\n    improvements: Be bold.\n"
        + EOS
    )
    assert "Evaluation:\nscores:\n" in both(tokenizer, row, type="creative_acr.load_revise")[0]
    with pytest.raises(RowError, match="field 'scores' is text, not an object"):
        both(tokenizer, {**row, "scores": "good"}, type="creative_acr.load_critique")


def test_completion_trains_all_but_the_first_token(tokenizer: Any) -> None:
    assert both(tokenizer, {"body": "One two"}, type="completion", field="body") == (f"One two{EOS}", f" two{EOS}")


def test_input_output_in_both_forms(tokenizer: Any) -> None:
    plain = {"input": "What is 1 + 1?\n", "output": "\n2"}
    assert both(tokenizer, plain, type="input_output") == (f"What is 1 + 1?\n\n2{EOS}", f"\n2{EOS}")
    segments = {
        "segments": [
            {"label": False, "text": "<s>Hi "},
            {"label": True, "text": "there"},
            {"label": False, "text": "! "},
            {"label": True, "text": "you</s>"},
        ]
    }
    assert both(tokenizer, segments, type="input_output") == ("<s>Hi there! you</s>", "thereyou</s>")


def test_a_format_written_in_the_config(tokenizer: Any) -> None:
    form = {
        "system_prompt": "S",
        "system_format": "[{system}]\\n",
        "field_instruction": "q",
        "field_input": "c",
        "field_output": "a",
        "format": "Q: {instruction} ({input})\nA:",
        "no_input_format": "Q: {instruction}\nA:",
    }
    assert both(tokenizer, {"q": "x", "c": "y", "a": " z"}, type=form) == (f"[S]\nQ: x (y)\nA: z{EOS}", f" z{EOS}")
    assert both(tokenizer, {"q": "x", "a": " z"}, type=form)[0] == f"[S]\nQ: x\nA: z{EOS}"


def test_a_function_of_ones_own(tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "def chat(row):\n"
        "    return {'messages': [{'role': 'user', 'content': row['q']}, {'role': 'assistant', 'content': row['a']}]}\n"
        "def text(row):\n    return {'input': row['q'], 'output': row['a']}\n"
        "def broken(row):\n    return row['nothing']\n"
        "def odd(row):\n    return 3\n"
    )
    (tmp_path / "my_rows.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    row = {"q": "Q", "a": "A"}
    assert both(tokenizer, row, type="my_rows.chat", chat_template="chatml")[1] == f"A{EOS}"
    assert both(tokenizer, row, type="my_rows.text") == (f"QA{EOS}", f"A{EOS}")
    with pytest.raises(RowError, match=r"my_rows.broken failed: KeyError: 'nothing'"):
        both(tokenizer, row, type="my_rows.broken")
    with pytest.raises(RowError, match=r"my_rows.odd returned a number"):
        both(tokenizer, row, type="my_rows.odd")
    with pytest.raises(DataError, match="module my_rows has no function 'none'"):
        both(tokenizer, row, type="my_rows.none")


def convert(row: Any, **spec: Any) -> Any:
    return find_format(DatasetSpec(path="x", **spec), DataSection())(row)


def test_pretokenized_rows() -> None:
    assert convert({"input_ids": [1, 2], "labels": [-100, 2]}) == TokenRow((1, 2), (-100, 2))
    assert convert({"input_ids": [1, 2]}) == TokenRow((1, 2), (1, 2))


CHAT = {"type": "chat_template"}
BAD_ROWS = [
    (CHAT, {"message": []}, "no field 'messages' \\(fields: message\\)"),
    (CHAT, {"messages": None}, "field 'messages' is null"),
    (CHAT, {"messages": []}, "is an empty list"),
    (CHAT, {"messages": "hello"}, "is text that is not JSON"),
    (CHAT, {"messages": ["hello"]}, "message 1 is text, not an object"),
    (CHAT, {"messages": [{"content": "x"}]}, "no key of message 1 'role'"),
    (CHAT, {"messages": [{"role": "asistant", "content": "x"}]}, "unknown role 'asistant'"),
    (CHAT, {"messages": [{"role": "user", "content": None}]}, "key of message 1 'content' is null"),
    (CHAT, {"messages": [{"role": "user", "content": " "}]}, r"message 1 \(user\) is empty"),
    (CHAT, {"messages": [{"role": "user", "content": 3}]}, "content of message 1 is a number, not text"),
    (CHAT, {"messages": [{"role": "user", "content": "\ud83d"}]}, "holds half a character"),
    ({"type": "alpaca"}, {"instruction": "x"}, r"no field 'output' \(fields: instruction\)"),
    ({"type": "alpaca"}, {"instruction": "x", "output": ""}, "field 'output' is empty"),
    ({"type": "alpaca"}, {"instruction": None, "output": "y"}, "field 'instruction' is null"),
    ({"type": "completion"}, {"Text": "x"}, "no field 'text'"),
    ({"type": "input_output"}, {"prompt": "x"}, "neither 'segments' nor 'input' and 'output'"),
    ({"type": "input_output"}, {"segments": [{"text": "x"}]}, "label of segment 1 is null"),
    ({}, {"text": "x"}, "no field 'input_ids'"),
    ({}, {"input_ids": [1], "labels": []}, "input_ids has 1 entries and labels has 0"),
    ({}, {"input_ids": [1.5]}, "not a list of whole numbers"),
    ({"type": "pygmalion"}, {"conversations": [{"role": "x", "value": "y"}]}, "unknown role 'x'"),
]


@pytest.mark.parametrize(("spec", "row", "message"), BAD_ROWS, ids=[text for _, _, text in BAD_ROWS])
def test_bad_rows(spec: dict[str, Any], row: Any, message: str) -> None:
    with pytest.raises(RowError, match=message):
        convert(row, **spec)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("chat_templte", "did you mean 'chat_template'?"),
        ("sharegpt", "message_property_mappings"),
        ("alpca", "did you mean 'alpaca'?"),
        ("no.such.function", "--list-types"),
        ("chat_template.argilla", "rl: dpo"),
    ],
)
def test_unknown_types(name: str, hint: str) -> None:
    with pytest.raises(DataError) as raised:
        find_format(DatasetSpec(path="x", type=name), DataSection())
    assert hint in (raised.value.hint or "")
