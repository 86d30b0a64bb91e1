"""Trained text is what was meant, to the byte, for every shipped template, policy and any conversation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.encode import BatchEncoder, Encoded
from ftl_runner.data.templates import _ALIASES, shipped_template_names
from ftl_runner.data.turns import Rendered
from tests.unit.data.data_support import text_of, trained_text
from tests.unit.data.mask_cases import CASES, SPECIAL, Case, Policy, meant

SPECIAL_LOOKING = [
    *("<|im_end|>", "<|im_start|>assistant\n", "### Response:\n", "{{ x }}", "{% if %}", "[INST]", "</s>", "[/INST]"),
    *("<|eot_id|>", "<end_of_turn>\n", "<|im_end|>\n<|im_start|>assistant\n", "</tool_call>", "</think>\n\n"),
]
SPACES = ["\n", "\n\n", " ", "  ", "\t", "\u200b", "\u00a0", "\ufeff", "\x00"]
WRITING = ["<think>", "\u00e9", "e\u0301", "\U0001f469\u200d\U0001f467", "\ud55c\uad6d\uc5b4", "Azq2", "'s", "123"]
# SmolLM2's vocabulary lacks some control characters and the bytes of planes 4 and up.
ANY = st.text(st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cs", "Cc"]), max_size=12)
WORDS = ["Hello", " world", "a", "!", "Yes.", "user", "assistant"]
TEXT = st.lists(st.one_of(ANY, st.sampled_from([*SPECIAL_LOOKING, *SPACES, *WRITING, *WORDS])), min_size=1, max_size=6)
CONTENT = TEXT.map("".join).filter(lambda text: text.strip() != "")
WISH = st.sampled_from([None, None, None, True, False])
POLICY = st.builds(
    Policy,
    roles_to_train=st.sampled_from([None, None, (), ("user",), ("assistant", "system"), ("user", "assistant")]),
    train_on_inputs=st.sampled_from([False, False, False, True]),
    train_on_eos=st.sampled_from([None, "all", "turn", "last", "none"]),
    train_on_eot=st.sampled_from([None, None, "all", "turn", "last", "none"]),
)


@st.composite
def conversations(draw: st.DrawFn, case: Case) -> list[dict[str, Any]]:
    """Messages as a row has them: repeated contents, wishes of their own, tool calls and reasoning where written."""
    pool = draw(st.lists(CONTENT, min_size=1, max_size=4))
    content = st.one_of(st.sampled_from(pool), CONTENT)
    messages: list[dict[str, Any]] = []
    if draw(st.booleans()):
        messages.append({"role": "system", "content": draw(content), "train": draw(WISH)})
    for _ in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": draw(content), "train": draw(WISH)})
        if case.tools and draw(st.booleans()):
            arguments = st.dictionaries(st.sampled_from(["a", "b c"]), st.one_of(content, st.integers()), max_size=2)
            call = st.builds(lambda a: {"type": "function", "function": {"name": "add", "arguments": a}}, arguments)
            calls = draw(st.lists(call, min_size=1, max_size=2))
            messages.append({"role": "assistant", "content": draw(st.sampled_from(["", *pool])), "tool_calls": calls})
            messages += [{"role": "tool", "content": draw(content)} for _ in calls]
        answer: dict[str, Any] = {"role": "assistant", "content": draw(content), "train": draw(WISH)}
        if case.reasoning and draw(st.booleans()):
            answer["reasoning_content"] = draw(content)
        messages.append(answer)
    return messages


_MADE: dict[Any, Any] = {}


def made(key: Any, make: Callable[[], Any]) -> Any:
    if key not in _MADE:
        _MADE[key] = make()
    return _MADE[key]


def converter(case: Case, policy: Policy, load_tokenizer: Any) -> RowConverter:
    tokenizer = made((case.bos, case.eos), lambda: load_tokenizer(*SPECIAL, bos=case.bos, eos=case.eos))

    def make() -> RowConverter:
        spec: dict[str, Any] = {"chat_template": case.template, "message_field_training": "train", **policy.spec()}
        data = DataSection(train_on_inputs=policy.train_on_inputs)
        return RowConverter(DatasetSpec(path="x", type="chat_template", **spec), data, tokenizer, LengthRule(1 << 20))

    return made((case, policy), make)


def encode_row(convert: RowConverter, messages: list[dict[str, Any]]) -> tuple[Rendered, Encoded]:
    rendered = convert.render(convert.example({"messages": messages}))  # type: ignore[arg-type]
    encoder = made(id(convert._tokenizer), lambda: BatchEncoder(convert._tokenizer))
    return rendered, encoder.encode([rendered])[0]


def test_every_shipped_template_has_a_case() -> None:
    assert set(shipped_template_names()) - set(_ALIASES) <= {case.template for case in CASES}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.template)
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data(), policy=POLICY)
def test_trained_text_is_what_was_meant(case: Case, data: st.DataObject, policy: Policy, load_tokenizer: Any) -> None:
    convert = converter(case, policy, load_tokenizer)
    messages = data.draw(conversations(case))
    rendered, row = encode_row(convert, messages)
    assert trained_text(convert._tokenizer, row) == meant(case, policy, messages)
    assert text_of(convert._tokenizer, row.input_ids.tolist()) == rendered.text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.template)
@settings(max_examples=5, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_inference_prompt_is_a_prefix_that_ends_where_training_begins(
    case: Case, data: st.DataObject, load_tokenizer: Any
) -> None:
    convert = converter(case, Policy(), load_tokenizer)
    messages = [{**message, "train": None} for message in data.draw(conversations(case))]
    rendered, row = encode_row(convert, messages)
    example = convert.example({"messages": messages})
    fields = [message.fields for message in example.messages]  # type: ignore[union-attr]
    answers = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    ids = row.input_ids.tolist()
    begins = {span.turn: span for span in reversed(rendered.spans)}
    for number, span in zip(answers, [begins[turn] for turn in sorted(begins)], strict=True):
        prompt = convert.turn_renderer().template.render(fields[:number], add_generation_prompt=True)
        assert rendered.text[: span.start] == prompt
        begins = int((row.turns == span.turn).nonzero()[0][0])
        assert text_of(convert._tokenizer, ids[:begins]) == prompt
        if number == answers[0]:
            assert ids[:begins] == convert._tokenizer.encode(prompt, add_special_tokens=False)
