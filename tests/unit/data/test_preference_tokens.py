"""Tokens of preference examples: cut exactly at the prompt's end, within the limits, and counted."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftl_runner.data.errors import RowError
from ftl_runner.data.preference.convert import BAD, GOOD
from ftl_runner.data.templates import shipped_template_names
from tests.unit.data.data_support import text_of
from tests.unit.data.preference_support import converter, texts, tokens

SPECIAL = ("<|im_start|>", "<|im_end|>", "<|eot_id|>", "</s>", "<end_of_turn>", "<|end|>", "<turn|>", "<|end_of_text|>")
PASS = {"type": "passthrough"}


@pytest.fixture(scope="module")
def tokenizer(load_tokenizer: Any) -> Any:
    return load_tokenizer(*SPECIAL, bos="<s>", eos="</s>")


def part(row: Any, mark: int) -> list[int]:
    return [token for token, label in zip(row.input_ids.tolist(), row.labels.tolist(), strict=True) if label == mark]


TEXT = st.lists(st.sampled_from(["Hi", " a", "\n", " ", "4", "</s>", "é", "?", "\n\n", "  "]), min_size=1, max_size=5)
CONTENT = TEXT.map("".join).filter(lambda text: text.strip() != "")


@pytest.mark.parametrize("template", shipped_template_names())
@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(question=CONTENT, better=CONTENT, worse=CONTENT)
def test_the_prompt_is_the_inference_prompt_for_every_template(
    template: str, question: str, better: str, worse: str, tokenizer: Any
) -> None:
    row = {"messages": question, "chosen": better, "rejected": worse + "x"}
    spec = {"type": "chat_template.default", "chat_template": template}
    convert = converter("pair", tokenizer, spec, sequence_len=4096)
    [kept], rejected, _ = convert.convert([row], 0)
    assert not rejected
    assert convert.template is not None
    prompt = convert.template.render([{"role": "user", "content": question}], add_generation_prompt=True)
    assert text_of(tokenizer, part(kept, -100)) == prompt
    for answer, mark in ((better, GOOD), (worse + "x", BAD)):
        messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        whole = convert.template.render(messages)
        written = text_of(tokenizer, part(kept, mark))
        assert whole.startswith(prompt + written)
        assert written.strip().startswith(answer.strip())


def test_the_end_of_the_turn_belongs_to_the_answer_and_nothing_behind_it(tokenizer: Any) -> None:
    spec = {"type": "chat_template.default", "chat_template": "chatml"}
    _, better, worse = texts("pair", tokenizer, {"messages": "Q", "chosen": "A", "rejected": "B"}, spec)
    assert (better, worse) == ("A<|im_end|>", "B<|im_end|>")


def test_the_prompt_has_the_tokens_that_it_has_alone(tokenizer: Any) -> None:
    row = {"prompt": "Say\n", "chosen": "\nyes", "rejected": "no"}
    [kept], _ = tokens("pair", tokenizer, [row], PASS)
    assert part(kept, -100) == tokenizer("Say\n", add_special_tokens=False)["input_ids"]
    assert text_of(tokenizer, part(kept, GOOD)) == "\nyes</s>"


def test_tools_reasoning_and_tool_calls_reach_the_template(tokenizer: Any) -> None:
    spec = {"type": "chat_template.default", "chat_template": "qwen3"}
    call = {"type": "function", "function": {"name": "add", "arguments": '{"a": 2}'}}
    row = {
        "messages": "2 + 2?",
        "tools": '[{"type": "function", "function": {"name": "add"}}]',
        "chosen": {"role": "assistant", "content": "", "tool_calls": [call]},
        "rejected": {"role": "assistant", "content": "5", "reasoning_content": "Hm."},
    }
    prompt, better, worse = texts("pair", tokenizer, row, spec)
    assert '{"type": "function", "function": {"name": "add"}}' in prompt
    assert better == '<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call><|im_end|>'
    assert worse == "<think>\nHm.\n</think>\n\n5<|im_end|>"


def test_a_task_whose_tools_a_template_does_not_write_is_refused(tokenizer: Any) -> None:
    tools = '[{"type": "function", "function": {"name": "add"}}]'
    row = {"messages": [{"role": "user", "content": "2 + 2?"}], "tools": tools}
    spec = {"type": "chat_template", "chat_template": "qwen3"}
    assert '"name": "add"' in texts("task", tokenizer, row, spec)[0]
    kept, _ = tokens("task", tokenizer, [row], spec)
    assert '"tools": [{"type": "function", "function": {"name": "add"}}]' in kept[0].extra
    with pytest.raises(RowError, match="chat template 'chatml' does not write tools"):
        texts("task", tokenizer, row, {**spec, "chat_template": "chatml"})


THINKS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% if think %}<think>\n{% endif %}{% endif %}"
)


def test_a_template_that_writes_another_prompt_for_inference_is_refused(tokenizer: Any) -> None:
    row = {"messages": "Q", "chosen": "A", "rejected": "B"}
    spec = {"type": "chat_template.default", "chat_template": "jinja", "chat_template_jinja": THINKS}
    assert texts("pair", tokenizer, row, spec)[1] == "A<|im_end|>"
    with pytest.raises(RowError, match="writes another prompt before an answer than for inference") as raised:
        texts("pair", tokenizer, row, {**spec, "chat_template_kwargs": {"think": True}})
    assert "chat_template_kwargs" in (raised.value.hint or "")


def test_a_template_that_raises_is_named(tokenizer: Any) -> None:
    spec = {"type": "chat_template.default", "chat_template": "gemma4"}
    row = {"messages": [{"role": "tool", "content": "3"}], "chosen": "A", "rejected": "B"}
    with pytest.raises(RowError, match="chat template 'gemma4' refuses the conversation: this template knows"):
        texts("pair", tokenizer, row, spec)


@cache
def sentencepiece_like(model: str) -> Any:
    """A small tokenizer that puts a space before every text, trained on a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<unk>", "<s>", "</s>"]
    text = ["the quick fox yes no maybe four five 4 5 2 + 2?", "\n\n yes\n no\nthe fox"] * 50
    if model == "bpe":
        backend = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
        parts = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        backend.decoder = decoders.Sequence(parts)
        octets = [f"<0x{number:02X}>" for number in range(256)]
        trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=[*special, *octets], show_progress=False)
    else:
        backend = Tokenizer(models.Unigram())
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
        backend.decoder = decoders.Metaspace()
        options = {"special_tokens": special, "unk_token": "<unk>", "show_progress": False}
        trainer = trainers.UnigramTrainer(vocab_size=300, **options)
    backend.train_from_iterator(text, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


BOUNDARIES = [
    ("2 + 2?", " four"),
    ("2 + 2?\n", "four"),
    ("the", " \n no"),
    ("four ", "five"),
    ("x\n", "\n\n5"),
    ("\u00e9", "\u00e9"),
]


@pytest.mark.parametrize("model", ["bpe", "unigram"])
@pytest.mark.parametrize(("prompt", "answer"), BOUNDARIES)
def test_tokenizers_that_put_a_space_before_a_text_put_none_before_an_answer(
    model: str, prompt: str, answer: str
) -> None:
    own = sentencepiece_like(model)
    [kept], _ = tokens("pair", own, [{"prompt": prompt, "chosen": answer, "rejected": answer + " no"}], PASS)
    assert part(kept, -100) == own(prompt, add_special_tokens=False)["input_ids"]
    for mark, text in ((GOOD, answer), (BAD, answer + " no")):
        ids = [*part(kept, -100), *part(kept, mark)]
        whole = own(prompt + text, add_special_tokens=False)["input_ids"]
        read = [own.backend_tokenizer.decode(row, skip_special_tokens=True) for row in (ids, whole)]
        assert read[0] == read[1]


PROMPT, GOOD_ANSWER, BAD_ANSWER = "a b c d e f", " one two three four", " one two"


def test_lengths(tokenizer: Any) -> None:
    row = {"prompt": PROMPT, "chosen": GOOD_ANSWER, "rejected": BAD_ANSWER}
    [whole], _ = tokens("pair", tokenizer, [row], PASS)
    sizes = [len(part(whole, mark)) for mark in (-100, GOOD, BAD)]
    assert sizes == [6, 5, 3]
    assert len(tokens("pair", tokenizer, [row], PASS, sequence_len=11)[0]) == 1
    kept, tally = tokens("pair", tokenizer, [row], PASS, sequence_len=10)
    assert (kept, dict(tally.dropped), dict(tally.dropped_tokens)) == ([], {"too_long": 1}, {"too_long": 14})
    cut = {"excess_length_strategy": "truncate"}
    [kept_row], tally = tokens("pair", tokenizer, [row], PASS, sequence_len=10, **cut)
    assert [len(part(kept_row, mark)) for mark in (-100, GOOD, BAD)] == [6, 4, 3]
    assert (tally.long_rows, tally.excess_tokens, dict(tally.dropped)) == (1, 1, {})
    kept, tally = tokens("pair", tokenizer, [row], PASS, sequence_len=8, **cut)
    assert (kept, dict(tally.dropped)) == ([], {"same_answers_when_cut": 1})
    kept, tally = tokens("pair", tokenizer, [row], PASS, sequence_len=6, **cut)
    assert (kept, dict(tally.dropped)) == ([], {"prompt_too_long": 1})
    with pytest.raises(RowError, match="prompt and answer: 11 tokens are more than sequence_len 10"):
        tokens("pair", tokenizer, [row], PASS, sequence_len=10, excess_length_strategy="raise")


def test_prompt_lengths(tokenizer: Any) -> None:
    row = {"prompt": PROMPT, "completion": " x", "label": False}
    kept, tally = tokens("unpaired", tokenizer, [row], PASS, max_prompt_len=4)
    assert (kept, dict(tally.dropped)) == ([], {"prompt_too_long": 1})
    [cut], tally = tokens("unpaired", tokenizer, [row], PASS, max_prompt_len=4, excess_length_strategy="truncate")
    assert text_of(tokenizer, part(cut, -100)) == " c d e f"
    assert text_of(tokenizer, part(cut, BAD)) == " x</s>"
    assert tally.dropped_tokens["prompt_cut"] == 2
    with pytest.raises(RowError, match="the prompt: 6 tokens are more than max_prompt_len 4"):
        tokens("unpaired", tokenizer, [row], PASS, max_prompt_len=4, excess_length_strategy="raise")
    kept, tally = tokens("task", tokenizer, [{"prompt": PROMPT}], {}, max_prompt_len=4)
    assert (kept, dict(tally.dropped)) == ([], {"prompt_too_long": 1})


def test_equal_answers_are_dropped_and_counted(tokenizer: Any) -> None:
    kept, tally = tokens("pair", tokenizer, [{"prompt": "Q", "chosen": "A", "rejected": "A"}], PASS)
    assert (kept, dict(tally.dropped)) == ([], {"same_answers": 1})


STEPS = {"prompt": "2 + 2 + 1?", "completions": ["2 + 2 = 4", "4 + 1 = 6"], "labels": [True, False]}


def judged(tokenizer: Any, row: Any) -> list[tuple[str, int]]:
    """The text up to each judgement, and the judgement."""
    ids, labels = row.input_ids.tolist(), row.labels.tolist()
    return [(text_of(tokenizer, ids[: at + 1]), label) for at, label in enumerate(labels) if label != -100]


def test_steps_are_judged_at_their_ends(tokenizer: Any) -> None:
    spec: dict[str, Any] = {"type": "stepwise_supervised"}
    first, both = "2 + 2 + 1?2 + 2 = 4\n", "2 + 2 + 1?2 + 2 = 4\n4 + 1 = 6\n"
    [row], _ = tokens("steps", tokenizer, [STEPS], spec)
    assert judged(tokenizer, row) == [(first, GOOD), (both, BAD)]
    [row], _ = tokens("steps", tokenizer, [STEPS], {**spec, "train_on_last_step_only": True, "step_separator": " ##"})
    assert judged(tokenizer, row) == [(both.replace("\n", " ##"), BAD)]
    odd = {**STEPS, "completions": ["2 + 2 = 4\n", "5"]}
    [row], _ = tokens("steps", tokenizer, [odd], spec)
    newline = tokenizer("\n", add_special_tokens=False)["input_ids"]
    assert [row.input_ids[at] for at in (row.labels >= 0).nonzero()[0]] == newline * 2, "separators are never joined"
    cut = {"excess_length_strategy": "truncate"}
    [row], tally = tokens("steps", tokenizer, [STEPS], {**spec, "max_completion_length": 12}, **cut)
    assert judged(tokenizer, row) == [(first, GOOD)]
    assert tally.excess_tokens > 0
    kept, tally = tokens("steps", tokenizer, [STEPS], {**spec, "max_completion_length": 3}, **cut)
    assert (kept, dict(tally.dropped)) == ([], {"no_judged_step": 1})
