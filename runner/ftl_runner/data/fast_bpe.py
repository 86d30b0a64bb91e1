"""Byte-level BPE through tiktoken's core, where its result is provably that of the tokenizer: a fifth of the cost.

``tokenizers`` merges by a list of merges, tiktoken by the order of ids. Both give the same ids where

- ids stand in the order of the merges, and each token is made by one merge: both choose the same pair at each step;
- each token's own text tokenizes to the token. Then no step is tiktoken's alone: two neighbours whose text together is
  a token have come about as they would in that text by itself (no merge crosses its ends), so they are its merge;
- texts are cut by the same expression, which both compile, and at added tokens that are plain text.

Anything else, and any text that is left out below, goes to ``tokenizers``. What an expression's classes hold depends on
the Unicode version that a library was built with: a test compares every code point for the versions named here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

TESTED = {"tokenizers": "0.23", "tiktoken": "0.14"}
"""Major and minor versions that were compared with each other."""

GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""The expression of a ``ByteLevel`` pre-tokenizer (OpenAI's GPT-2)."""

_LONGEST_CHARS = 100_000
_MISSING = 1 << 24
"""Ids from here on stand for bytes that are no token: ``tokenizers`` knows what to do with them."""

Encode = Callable[[str], "npt.NDArray[np.int32] | None"]


@lru_cache(maxsize=4)  # datasets of one config share a tokenizer
def fast_encoder(backend: Any) -> Encode | None:
    """A function from a text to its ids (without added special tokens), or None where tiktoken is not the same.

    The function gives None for a text that it leaves to ``backend``.

    Args:
        backend: a ``tokenizers.Tokenizer``.
    """
    if not _versions_match():
        return None
    state = json.loads(backend.to_str())
    added = {token["content"]: int(token["id"]) for token in state["added_tokens"]}
    split = _split_of(state["pre_tokenizer"])
    ascii_only = _needs_ascii(state["normalizer"])
    if split is None or ascii_only is None or not _plain(state["added_tokens"]):
        return None
    if not _same_merges(state["model"], added, backend.model):
        return None
    ranks = _ranks(state["model"]["vocab"], added)
    return None if ranks is None else _encoder(split, ranks, added, ascii_only=ascii_only)


def _encoder(split: str, ranks: dict[bytes, int], added: dict[str, int], *, ascii_only: bool) -> Encode:
    from tiktoken import Encoding

    core = Encoding("ftl", pat_str=split, mergeable_ranks=ranks, special_tokens=added)

    def encode(text: str) -> npt.NDArray[np.int32] | None:
        if len(text) > _LONGEST_CHARS or (ascii_only and not text.isascii()):
            return None
        ids = core.encode_to_numpy(text, allowed_special="all")
        return None if len(ids) and ids.max() >= _MISSING else ids.astype(np.int32)

    return encode


def _versions_match() -> bool:
    try:
        return all(version(name).startswith(f"{wanted}.") for name, wanted in TESTED.items())
    except PackageNotFoundError:
        return False


def _split_of(pre_tokenizer: Mapping[str, Any] | None) -> str | None:
    """The expression that cuts a text, of the two usual forms of byte-level BPE."""
    parts: list[Mapping[str, Any]] = (
        [] if pre_tokenizer is None else pre_tokenizer.get("pretokenizers", [pre_tokenizer])
    )
    if not parts or parts[-1].get("type") != "ByteLevel" or parts[-1].get("add_prefix_space"):
        return None
    if len(parts) == 1:
        return GPT2_SPLIT if parts[0].get("use_regex", True) else None
    if len(parts) != 2 or parts[1].get("use_regex", True) or parts[0].get("type") != "Split":
        return None
    pattern = parts[0]["pattern"].get("Regex")
    return pattern if parts[0]["behavior"] == "Isolated" and not parts[0]["invert"] else None


def _needs_ascii(normalizer: Mapping[str, Any] | None) -> bool | None:
    """False without a normalizer; True for one that leaves ASCII as it is; None for any other."""
    if normalizer is None or (normalizer["type"] == "Sequence" and not normalizer["normalizers"]):
        return False
    return True if normalizer["type"] in ("NFC", "NFKC") else None


def _plain(added: Sequence[Mapping[str, Any]]) -> bool:
    """Whether added tokens are found as they stand, and no two of them can be found in one place."""
    contents = [token["content"] for token in added]
    if any(token[flag] for token in added for flag in ("lstrip", "rstrip", "single_word")) or not all(contents):
        return False
    starts = {content[:length] for content in contents for length in range(1, len(content))}
    joined = "\0".join(contents)
    inside = any(joined.count(content) > 1 for content in contents)
    return not inside and not any(content[at:] in starts for content in contents for at in range(1, len(content)))


def _same_merges(model: Mapping[str, Any], added: Mapping[str, int], bpe: Any) -> bool:
    """Whether merges stand in the order of ids, one a token, and every token's text is that token."""
    if model["type"] != "BPE" or model.get("dropout") or model.get("ignore_merges"):
        return False
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return False
    vocab: Mapping[str, int] = model["vocab"]
    merges = (pair if isinstance(pair, list) else pair.split(" ") for pair in model["merges"])
    made = [vocab[left + right] for left, right in merges]
    if not all(before < after for before, after in pairwise(made)):
        return False
    return all(
        [part.id for part in bpe.tokenize(token)] == [number] for token, number in vocab.items() if token not in added
    )


def _ranks(vocab: Mapping[str, int], added: Mapping[str, int]) -> dict[bytes, int] | None:
    """The vocabulary by bytes; bytes without a token get an id from ``_MISSING`` on."""
    values = _byte_values()
    ranks: dict[bytes, int] = {}
    for token, number in vocab.items():
        if token in added:
            continue
        if not all(char in values for char in token):
            return None
        ranks[bytes(values[char] for char in token)] = number
    singles = {bytes([value]) for value in range(256)}
    return ranks | {single: _MISSING + single[0] for single in singles - ranks.keys()}


def _byte_values() -> dict[str, int]:
    """The byte that each character of a byte-level vocabulary stands for (GPT-2's table)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [value for value in range(256) if value not in printable]
    return {chr(value): value for value in printable} | {chr(256 + at): value for at, value in enumerate(others)}
