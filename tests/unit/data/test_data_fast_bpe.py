"""tiktoken gives the ids of the tokenizer it stands in for, or is not used."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data import encode as encode_module
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.fast_bpe import TESTED, Encode, fast_encoder
from tests.unit.data.data_support import chat_row

Change = Callable[[dict[str, Any]], None]


def backend_with(tokenizer: Any, change: Change) -> Any:
    from tokenizers import Tokenizer

    state = json.loads(tokenizer.backend_tokenizer.to_str())
    change(state)
    return Tokenizer.from_str(json.dumps(state))


@pytest.fixture(scope="module")
def fast(tokenizer: Any) -> Encode:
    found = fast_encoder(tokenizer.backend_tokenizer)
    assert found is not None, f"not for these versions: compare tiktoken with tokenizers again, then change {TESTED}"
    return found


def same(fast: Encode, tokenizer: Any, texts: list[str]) -> int:
    """Asserts equal ids; how many texts were left to the tokenizer."""
    left = 0
    encodings = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    for text, encoding in zip(texts, encodings, strict=True):
        ids = fast(text)
        if ids is None:
            left += 1
        else:
            assert ids.tolist() == encoding.ids, text
    return left


@pytest.mark.slow
def test_every_code_point(fast: Encode, tokenizer: Any) -> None:
    """Letter, number, space or other: both libraries' expressions agree on each."""
    points = [chr(number) for number in range(0x40000) if not 0xD800 <= number < 0xE000]
    left = sum(
        same(fast, tokenizer, [f"a{char}1 {char}\n{char}{char}x" for char in points[start : start + 4096]])
        for start in range(0, len(points), 4096)
    )
    assert left < 100


def test_common_code_points(fast: Encode, tokenizer: Any) -> None:
    points = [chr(number) for number in range(0x3000)]
    assert same(fast, tokenizer, [f"a{char}1 {char}\n{char}{char}x" for char in points]) < 100


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_text(data: st.DataObject, fast: Encode, tokenizer: Any) -> None:
    backend = tokenizer.backend_tokenizer
    token = st.integers(0, 49151).map(lambda number: str(backend.decode([number], skip_special_tokens=False)))
    run = st.tuples(st.sampled_from("a0 \n=-.\u00e9\u4e2d"), st.integers(1, 60)).map(lambda pair: pair[0] * pair[1])
    word = st.text(st.sampled_from("abcdeinorst"), max_size=20)
    special = st.sampled_from(["<|im_end|>", "<|im_start|>", "<|im_", "'ll", "'LL"])
    pieces = st.lists(st.one_of(token, run, word, special, st.text(max_size=5)), max_size=12)
    texts = [text for text in data.draw(st.lists(pieces.map("".join), min_size=1, max_size=5))]
    same(fast, tokenizer, [text.encode("utf-8", "ignore").decode() for text in texts])


def _split(pattern: str, behavior: str = "Isolated") -> Change:
    def change(state: dict[str, Any]) -> None:
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}
        level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        state["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, level]}

    return change


QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def test_an_expression_of_the_tokenizers_own(tokenizer: Any) -> None:
    """Qwen's, with its NFC normalizer: text beyond ASCII is left to the tokenizer."""

    def change(state: dict[str, Any]) -> None:
        _split(QWEN)(state)
        state["normalizer"] = {"type": "NFC"}

    backend = backend_with(tokenizer, change)
    encode = fast_encoder(backend)
    assert encode is not None
    for text in ("It's 1234 o'CLOCK\r\n\r\n  yes!!\n", "<|im_start|>user\nHi<|im_end|>", " " * 40 + "x\t\ty"):
        ids = encode(text)
        assert ids is not None
        assert ids.tolist() == backend.encode(text, add_special_tokens=False).ids
    assert encode("e\u0301") is None


def _set(*path: str | int, value: Any) -> Change:
    def change(state: dict[str, Any]) -> None:
        *way, last = path
        for name in way:
            state = state[name]  # type: ignore[index]
        state[last] = value  # type: ignore[index]

    return change


def _swap_merges(state: dict[str, Any]) -> None:
    merges = state["model"]["merges"]
    merges[100], merges[101] = merges[101], merges[100]


def _second_way(state: dict[str, Any]) -> None:
    """A token that two merges make."""
    state["model"]["merges"].append(["\u0120", "the"])


@pytest.mark.parametrize(
    "change",
    [
        _swap_merges,
        _second_way,
        _split(QWEN, "Removed"),
        _set("pre_tokenizer", "add_prefix_space", value=True),
        _set("normalizer", value={"type": "Lowercase"}),
        _set("model", "ignore_merges", value=True),
        _set("model", "dropout", value=0.1),
        _set("added_tokens", 1, "lstrip", value=True),
        _set("added_tokens", 1, "content", value="<|im_end|>x"),
    ],
)
def test_where_it_is_not_proven_it_is_not_used(change: Change, tokenizer: Any) -> None:
    assert fast_encoder(backend_with(tokenizer, change)) is None


def test_rows_are_the_same_with_and_without(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DatasetSpec(path="x", type="chat_template", chat_template="chatml")
    rows = [chat_row(f"Question {n}: {'why ' * n}", f"Answer {n} \U0001f680 {chr(0x10FFFF - n)}") for n in range(50)]

    def encoded(from_chars: int) -> list[tuple[list[int], list[int]]]:
        monkeypatch.setattr(encode_module, "_FAST_FROM_CHARS", from_chars)
        converter = RowConverter(spec, DataSection(), tokenizer, LengthRule(512))
        kept, _, _ = converter.convert(rows, 0)
        assert (converter._encoder._fast is not None) == (from_chars == 1)
        return [(row.input_ids.tolist(), row.labels.tolist()) for row in kept]

    assert encoded(1) == encoded(1 << 30)
