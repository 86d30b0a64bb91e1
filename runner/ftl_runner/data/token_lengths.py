"""How many bytes of text each token of a vocabulary stands for.

With these, token boundaries are a cumulative sum over ids: no offsets are asked of the tokenizer (its Python list of
pairs costs as much as the tokenization itself), and labels of a whole batch come out of a few numpy calls. It holds
for byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM) and for BPE/unigram with byte fallback and ``▁`` for a space
(Llama 2, Mistral, Gemma). The caller checks the sum against the text's length and uses offsets where they differ
(normalizers, dummy prefixes, stripped special tokens).
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

_BYTE_TOKEN = re.compile(r"^<0x[0-9A-Fa-f]{2}>$")
_UNKNOWN = -(1 << 40)
"""A length that makes every sum wrong, so that a row with such a token takes the slow way."""


def token_byte_lengths(backend: Any) -> npt.NDArray[np.int64] | None:
    """Bytes of text of each token id, or None for a kind of tokenizer that is not known here.

    Args:
        backend: a ``tokenizers.Tokenizer``.
    """
    kinds = _component_types(_state(backend.pre_tokenizer)) | _component_types(_state(backend.decoder))
    vocab: dict[str, int] = backend.get_vocab(with_added_tokens=True)
    model = backend.model
    if getattr(model, "continuing_subword_prefix", None) or getattr(model, "end_of_word_suffix", None):
        return None
    if "ByteLevel" in kinds:
        measure: Callable[[str], int] = len  # one character of a byte-level token stands for one byte
    elif kinds & {"Metaspace", "ByteFallback", "Replace"}:
        measure = _metaspace_bytes
    else:
        return None
    lengths = np.full(max(vocab.values(), default=-1) + 1, _UNKNOWN, dtype=np.int64)
    for token, number in vocab.items():
        lengths[number] = measure(token)
    for number, added in backend.get_added_tokens_decoder().items():
        strips = added.lstrip or added.rstrip  # whitespace beside it vanishes, and sums would fit by chance
        lengths[number] = _UNKNOWN if strips else len(added.content.encode()) or _UNKNOWN
    return lengths


def keeps_text(backend: Any) -> Callable[[str], bool] | None:
    """A check whether the tokenizer's normalizer leaves a text as it is; None where it always does.

    What a normalizer takes from a text and what it adds elsewhere may cancel out in a sum of lengths.
    """
    kinds = _component_types(_state(backend.normalizer)) - {"None", "Sequence", "Prepend", "Replace"}
    if not kinds:
        return None
    if kinds == {"NFC"}:
        return lambda text: unicodedata.is_normalized("NFC", text)
    normalize = backend.normalizer.normalize_str
    return lambda text: normalize(text) == text


def _metaspace_bytes(token: str) -> int:
    return 1 if _BYTE_TOKEN.match(token) else len(token.replace("▁", " ").encode())


def _state(component: Any) -> Any:
    return json.loads(component.__getstate__()) if component is not None else None


def _component_types(component: Any) -> set[str]:
    if not isinstance(component, dict):
        return set()
    parts = component.get("pretokenizers") or component.get("decoders") or component.get("normalizers") or ()
    return {str(component.get("type"))}.union(*(_component_types(part) for part in parts))
