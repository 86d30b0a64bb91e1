"""Trained text is what was meant, to the byte, for every shipped template and any conversation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.encode import BatchEncoder
from ftl_runner.data.turns import Rendered
from tests.unit.data.data_support import chat_row, text_of, trained_text


@dataclass(frozen=True)
class Case:
    """A template with what the model is meant to write: content (trimmed or not) between lead and end."""

    template: str
    end: str
    special: tuple[str, ...] = ()
    lead: str = ""
    trims: bool = False
    systems: bool = True
    bos: str = "<|endoftext|>"
    eos: str = "<|im_end|>"


IM = ("<|im_start|>", "<|im_end|>")
CASES = [
    Case("tokenizer_default", "<|im_end|>", IM),
    Case("chatml", "<|im_end|>", IM),
    Case("lfm2", "<|im_end|>", IM),
    Case("llama3", "<|eot_id|>", ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), trims=True),
    Case("gemma", "<end_of_turn>", ("<start_of_turn>", "<end_of_turn>"), trims=True),
    Case("phi_3", "<|end|>", ("<|user|>", "<|assistant|>", "<|system|>", "<|end|>")),
    Case("phi_4", "<|im_end|>", (*IM, "<|im_sep|>")),
    Case("mistral_v1", "</s>", lead=" ", bos="<s>", eos="</s>"),
    Case("mistral_v2v3", "</s>", ("[INST]", "[/INST]"), lead=" ", bos="<s>", eos="</s>"),
    Case("mistral_v3_tekken", "</s>", ("[INST]", "[/INST]"), bos="<s>", eos="</s>"),
    Case("mistral_v7_tekken", "</s>", ("[INST]", "[/INST]", "[SYSTEM_PROMPT]"), bos="<s>", eos="</s>"),
    Case("qwen2_5", "<|im_end|>", IM),
    Case("qwen3", "<|im_end|>", IM),
    Case("deepseek_v2", "</s>", lead=" ", bos="<s>", eos="</s>"),
    Case("deepseek_v3", "</s>", ("<\uff5cUser\uff5c>", "<\uff5cAssistant\uff5c>"), bos="<s>", eos="</s>"),
    Case("alpaca", "</s>", bos="<s>", eos="</s>"),
    Case("cohere", "<|END_OF_TURN_TOKEN|>", ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"), trims=True),
    Case("metharme", "</s>", ("<|user|>", "<|model|>", "<|system|>"), bos="<s>", eos="</s>"),
    Case("exaone", "[|endofturn|]", ("[|endofturn|]",)),
    Case("jamba", "<|eom|>", ("<|bom|>", "<|eom|>"), lead=" "),
]

SPECIAL_LOOKING = ["<|im_end|>", "<|im_start|>assistant\n", "### Response:\n", "{{ x }}", "{% if %}", "[INST]", "</s>"]
SPACES = ["\n", "\n\n", " ", "  ", "\t", "\u200b", "\u00a0", "\ufeff", "\x00"]
WRITING = ["<think>", "\u00e9", "e\u0301", "\U0001f469\u200d\U0001f467", "\ud55c\uad6d\uc5b4", "Azq2", "'s", "123"]
ODD = st.sampled_from([*SPECIAL_LOOKING, *SPACES, *WRITING])
# SmolLM2's vocabulary lacks some control characters and the bytes of planes 4 and up.
ANY = st.text(st.characters(max_codepoint=0x3FFFF, exclude_categories=["Cs", "Cc"]), max_size=12)
TEXT = st.lists(st.one_of(ANY, ODD, st.sampled_from(["Hello", " world", "a", "!"])), min_size=1, max_size=6)
CONTENT = TEXT.map("".join).filter(lambda text: text.strip() != "")
CONVERSATION = st.lists(st.tuples(CONTENT, CONTENT), min_size=1, max_size=4)

_CONVERTERS: dict[str, RowConverter] = {}


def converter(case: Case, load_tokenizer: Any, **spec: Any) -> RowConverter:
    key = f"{case}{sorted(spec.items())}"
    if key not in _CONVERTERS:
        tokenizer = load_tokenizer(*case.special, bos=case.bos, eos=case.eos)
        keys = {name: spec.pop(name) for name in ("train_on_inputs", "eot_tokens") if name in spec}
        dataset = DatasetSpec(path="x", type="chat_template", chat_template=case.template, **spec)
        _CONVERTERS[key] = RowConverter(dataset, DataSection(**keys), tokenizer, LengthRule(1 << 20))
    return _CONVERTERS[key]


_ENCODERS: dict[int, BatchEncoder] = {}


def encode_row(convert: RowConverter, row: Any) -> tuple[Rendered, Any]:
    rendered = convert.render(convert.example(row))  # type: ignore[arg-type]
    if id(convert) not in _ENCODERS:
        _ENCODERS[id(convert)] = BatchEncoder(convert._tokenizer)
    return rendered, _ENCODERS[id(convert)].encode([rendered])[0]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.template)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=CONVERSATION)
def test_trained_text_is_answers_and_their_ends(case: Case, turns: list[tuple[str, str]], load_tokenizer: Any) -> None:
    convert = converter(case, load_tokenizer)
    contents = [text for turn in turns for text in turn]
    rendered, row = encode_row(convert, chat_row(*contents))
    answers = [answer.strip() if case.trims else answer for _, answer in turns]
    assert trained_text(convert._tokenizer, row) == "".join(case.lead + answer + case.end for answer in answers)
    assert text_of(convert._tokenizer, row.input_ids.tolist()) == rendered.text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.template)
@settings(max_examples=5, deadline=None, suppress_health_check=list(HealthCheck))
@given(turns=CONVERSATION)
def test_inference_prompt_is_a_prefix_that_ends_where_training_begins(
    case: Case, turns: list[tuple[str, str]], load_tokenizer: Any
) -> None:
    convert = converter(case, load_tokenizer)
    rendered, _ = encode_row(convert, chat_row(*[text for turn in turns for text in turn]))
    messages = chat_row(*[text for turn in turns for text in turn])["messages"]
    for number, span in enumerate(rendered.spans):
        prompt = convert.turn_renderer().template.render(messages[: 2 * number + 1], add_generation_prompt=True)
        assert rendered.text[: span.start] == prompt
