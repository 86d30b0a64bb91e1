"""Labels are right with every kind of tokenizer: byte-level, Llama 2's, WordPiece, Unigram, and without offsets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizer, PreTrainedTokenizerFast

from ftl_config.schema.data import DataSection, DatasetSpec
from ftl_runner.data import encode
from ftl_runner.data.convert import LengthRule, RowConverter
from ftl_runner.data.encode import BatchEncoder
from ftl_runner.data.turns import Rendered, Span
from tests.unit.data.data_support import chat_row

SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
CORPUS = [
    "The quick brown fox, it's 12 years old; user and assistant said hello world.",
    "user\nassistant\nsystem\n\n### Response:\nnumbers 3.14 and\ttabs",
    "na\u00efve caf\u00e9 \u00fcber \ufb01ne \u2460 \ud55c\uad6d\uc5b4 e\u0301",
] * 4
CHATML = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>\n{% endfor %}"


def byte_level(prefix_space: bool) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
    made.decoder = decoders.ByteLevel()
    return train(made, trainers.BpeTrainer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def llama2() -> Tokenizer:
    """BPE with byte fallback; the space is a normalizer's, put before the text and behind every special token."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    train(trained, trainers.BpeTrainer)
    import json

    state = json.loads(trained.to_str())
    vocab = state["model"]["vocab"]
    state["model"]["vocab"] = {**vocab, **{f"<0x{n:02X}>": len(vocab) + n for n in range(256)}}
    state["model"] |= {"byte_fallback": True, "unk_token": "<unk>", "fuse_unk": True}
    made = Tokenizer.from_str(json.dumps(state))
    made.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return made


def metaspace(scheme: str) -> Tokenizer:
    made = Tokenizer(models.Unigram())
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    made.decoder = decoders.Metaspace(prepend_scheme=scheme)
    return train(made, trainers.UnigramTrainer, unk_token="<unk>", initial_alphabet=list("abcdefghij\n"))


def word_piece() -> Tokenizer:
    made = Tokenizer(models.WordPiece(unk_token="<unk>"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True, strip_accents=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    return train(made, trainers.WordPieceTrainer)


def train(made: Tokenizer, trainer: Any, **options: Any) -> Tokenizer:
    made.train_from_iterator(CORPUS, trainer(vocab_size=500, special_tokens=SPECIAL, show_progress=False, **options))
    return made


FAST = {
    "byte level": lambda: byte_level(False),
    "byte level, space before": lambda: byte_level(True),
    "llama 2": llama2,
    "unigram": lambda: metaspace("always"),
    "unigram, first": lambda: metaspace("first"),
    "unigram, no space": lambda: metaspace("never"),
    "word piece": word_piece,
}
_LOADED: dict[str, Any] = {}


def fast(kind: str) -> Any:
    if kind not in _LOADED:
        _LOADED[kind] = PreTrainedTokenizerFast(
            tokenizer_object=FAST[kind](), unk_token="<unk>", bos_token="<s>", eos_token="</s>"
        )
    return _LOADED[kind]


PIECES = ["Hello", " world", "\n", "\n\n", " ", "it's", "\t", "</s>"]
PIECES += ["na\u00efve", "e\u0301", "\ufb01", "\u2460", "\ud55c", "\U0001f600", "\u0958"]
TEXT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map("".join)
CONTENT = TEXT.filter(lambda text: text.strip() != "")


def rendered(tokenizer: Any, jinja: str, contents: list[str]) -> Rendered:
    spec = DatasetSpec(path="x", type="chat_template", chat_template="jinja", chat_template_jinja=jinja)
    convert = RowConverter(spec, DataSection(), tokenizer, LengthRule(1 << 20))
    return convert.render(convert.example(chat_row(*contents)))  # type: ignore[arg-type]


def visible(text: str) -> str:
    return "".join(text.split())


def covered(tokenizer: Any, row: Rendered, turns: Any, ids: Any) -> Iterator[str]:
    """The text under the tokens of each span, from the tokenizer's own offsets of the same ids."""
    told = tokenizer.backend_tokenizer.encode(row.text, add_special_tokens=False)
    assert told.ids == ids.tolist(), "tokens are those of the whole text"
    for span in row.spans:
        inside = [told.offsets[n] for n in np.flatnonzero(turns == span.turn)]
        yield row.text[min(a for a, _ in inside) : max(b for _, b in inside)]


@pytest.mark.parametrize("kind", FAST)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(contents=st.lists(CONTENT, min_size=2, max_size=6))
def test_trained_tokens_lie_over_the_trained_text(kind: str, contents: list[str]) -> None:
    tokenizer = fast(kind)
    row = rendered(tokenizer, CHATML, contents)
    encoded = BatchEncoder(tokenizer).encode([row, row])[1]
    wanted = [row.text[span.start : span.end] for span in row.spans]
    try:
        found = list(covered(tokenizer, row, encoded.turns, encoded.input_ids))
    except AssertionError:
        # Tokenized in parts, because a token would reach over the edge of a span.
        parts = [encoded.input_ids[encoded.turns == span.turn].tolist() for span in row.spans]
        found = [tokenizer.decode(part, skip_special_tokens=False) for part in parts]
        assert found == wanted
    assert [visible(text) for text in found] == [visible(text) for text in wanted]


@pytest.mark.parametrize("kind", ["byte level", "llama 2"])
def test_text_without_special_tokens_around_it(kind: str) -> None:
    tokenizer = fast(kind)
    row = rendered(tokenizer, PLAIN, ["Hello", "world it's", "Hello", "\n\nnumbers"])
    encoded = BatchEncoder(tokenizer).encode([row])[0]
    trained = tokenizer.decode(encoded.input_ids[encoded.labels != -100].tolist())
    assert visible(trained) == "worldit's</s>numbers</s>"


def test_lengths_that_cancel_out_are_not_trusted() -> None:
    """NFC makes e + accent shorter by a byte and U+0958 longer by three: three of one and one of the other."""
    tokenizer = fast("byte level")
    row = Rendered("e\u0301e\u0301e\u0301 abc \u0958 xyz", [Span(8, 11, 0)])
    assert row.text[8:11] == "bc "
    row = Rendered(row.text, [Span(7, 10, 0)])
    encoded = BatchEncoder(tokenizer).encode([row])[0]
    assert tokenizer.decode(encoded.input_ids[encoded.turns == 0].tolist()) == "abc"


def test_special_tokens_that_swallow_whitespace() -> None:
    made = byte_level(False)
    made.add_special_tokens([AddedToken("<|x|>", rstrip=True, special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>")
    row = Rendered("<|x|>\n\nHello world</s>", [Span(7, 22, 0)])
    encoded = BatchEncoder(tokenizer).encode([row])[0]
    assert tokenizer.decode(encoded.input_ids[encoded.turns == 0].tolist()) == "Hello world</s>"


def test_a_huge_row_is_tokenized_in_parts_into_the_same_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = fast("byte level")
    text = "The quick brown fox, it's 12 years old;\n\n" * 300
    row = Rendered(f"{text}<|im_end|>{text}", [Span(len(text), len(text) + 10, 0)])
    whole = BatchEncoder(tokenizer).encode([row])[0]
    monkeypatch.setattr(encode, "_HUGE_CHARS", 2000)
    monkeypatch.setattr(encode, "_PART_CHARS", 500)
    sizes: list[int] = []
    real = BatchEncoder._ids
    monkeypatch.setattr(BatchEncoder, "_ids", lambda self, texts: sizes.extend(map(len, texts)) or real(self, texts))
    parts = BatchEncoder(tokenizer).encode([row])[0]
    assert max(sizes) < 1000
    assert parts.input_ids.tolist() == whole.input_ids.tolist()
    assert parts.labels.tolist() == whole.labels.tolist()


class SpacedCharacters(PreTrainedTokenizer):
    """A tokenizer in Python, a character a token, that puts a space before every text as SentencePiece does."""

    def __init__(self, **keys: Any) -> None:
        self._characters = [*"\u2581\n\u0394", *map(chr, range(33, 127))]
        super().__init__(unk_token="\u0394", **keys)

    @property
    def vocab_size(self) -> int:
        return len(self._characters)

    def get_vocab(self) -> dict[str, int]:
        return {
            **{character: number for number, character in enumerate(self._characters)},
            **self._added_tokens_encoder,
        }

    def _tokenize(self, text: str, **keys: Any) -> list[str]:
        return ["\u2581", *text.replace(" ", "\u2581")]

    def _convert_token_to_id(self, token: str) -> int:
        return self._characters.index(token)

    def _convert_id_to_token(self, index: int) -> str:
        return self._characters[index]

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return "".join(tokens).removeprefix("\u2581").replace("\u2581", " ")


@pytest.mark.parametrize("make", [ByT5Tokenizer, SpacedCharacters])
def test_a_tokenizer_without_offsets(make: Any) -> None:
    tokenizer = make()
    assert not tokenizer.is_fast
    end = tokenizer.eos_token or ""
    jinja = f"{{% for m in messages %}}[{{{{ m.role }}}}]{{{{ m.content }}}}{end}{{% endfor %}}"
    contents = ["Why?", "Because it is.", "And?", "Hi \nthere"]
    row = rendered(tokenizer, jinja, contents)
    encoded = BatchEncoder(tokenizer).encode([row])[0]
    assert tokenizer.decode(encoded.input_ids.tolist()) == row.text
    for span, answer in zip(row.spans, contents[1::2], strict=True):
        assert tokenizer.decode(encoded.input_ids[encoded.turns == span.turn].tolist()).strip() == f"{answer}{end}"
    assert encoded.input_ids.tolist() == tokenizer.encode(row.text, add_special_tokens=False)
