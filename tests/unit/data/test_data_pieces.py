"""A text in pieces has the ids of the whole, whatever special tokens the tokenizer has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from ftl_runner.data import pieces
from ftl_runner.data.pieces import TextCutter

PARTS = st.lists(
    st.sampled_from(["<|im_start|>", "<|im_end|>", "<|left|>", "<|right|>", "<|", "|>", "<|im_start", "x<", "one"])
    | st.sampled_from([" ", "\n", "\n\n", "  two", "three ", "\u4f60\u597d", "\U0001f600", "don't", "12"]),
    max_size=60,
)


LEFT, RIGHT = AddedToken("<|left|>", lstrip=True, special=True), AddedToken("<|right|>", rstrip=True, special=True)
OVERLAPPING = AddedToken("x<", special=True)


@pytest.fixture(scope="module", params=["apart", "overlapping"])
def backend(load_tokenizer: Callable[..., Any], request: pytest.FixtureRequest) -> Any:
    backend = load_tokenizer().backend_tokenizer
    backend.add_special_tokens([LEFT, RIGHT, *([OVERLAPPING] if request.param == "overlapping" else [])])
    return backend


@settings(max_examples=150, deadline=None)
@given(first=PARTS, second=PARTS)
def test_pieces_have_the_ids_of_the_whole(backend: Any, first: list[str], second: list[str]) -> None:
    texts = ["".join(first), "".join(second)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_PIECE_CHARS", 5)
        cut = TextCutter(backend).cut(texts)
    for text, parts in zip(texts, cut, strict=True):
        assert "".join(parts) == text
        whole = backend.encode(text, add_special_tokens=False).ids
        assert [n for part in parts for n in backend.encode(part, add_special_tokens=False).ids] == whole


def test_a_long_conversation_is_cut(load_tokenizer: Callable[..., Any]) -> None:
    turn = f"<|im_start|>user\n{'word ' * 100}<|im_end|>\n"
    (parts,) = TextCutter(load_tokenizer().backend_tokenizer).cut([turn * 40])
    assert len(parts) == 20
    assert all(len(part) < 2 * pieces._PIECE_CHARS for part in parts)


def test_tokens_that_look_left_or_overlap_do_not_cut(load_tokenizer: Callable[..., Any]) -> None:
    backend = load_tokenizer().backend_tokenizer
    backend.add_special_tokens([LEFT, OVERLAPPING])
    for text in ("a <|left|>" * 300, "<|im_start|>a" * 200):  # "x<" may take the "<" of "<|im_start|>" away
        assert TextCutter(backend).cut([text]) == [[text]]
