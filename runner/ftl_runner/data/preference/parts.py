"""Prompts and answers tokenized each by itself: the prompt's tokens are those that the model is given at inference.

A tokenizer of SentencePiece's kind puts a space before every text. An answer stands behind its prompt and gets none:
it is tokenized behind a character of which the tokens are cut off.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ftl_runner.data.encode import Ints
from ftl_runner.data.errors import RowError

_LEADS = ("\ue000", ".", "a")
"""The first is private use: in no vocabulary, it becomes bytes, or the unknown token, which others may join."""


class PartEncoder:
    """Tokenizes parts of texts with one tokenizer, without adding special tokens."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._backend = tokenizer.backend_tokenizer if tokenizer.is_fast else None
        if self._backend is not None:
            self._backend.no_truncation()
            self._backend.no_padding()
        [behind] = self._behind(_LEADS[0], ["a"])
        self._stands_alone = behind is not None and np.array_equal(self._plain(["a"])[0], behind)

    def prompts(self, texts: Sequence[str]) -> list[Ints]:
        """Ids of texts that begin a sequence."""
        return self._plain(texts)

    def answers(self, texts: Sequence[str]) -> list[Ints | RowError]:
        """Ids of texts that stand behind others, or an error for one that cannot be tokenized apart from them."""
        if self._stands_alone:
            return list(self._plain(texts))
        found = self._behind(_LEADS[0], texts)
        return [self._retry(text) if ids is None else ids for text, ids in zip(texts, found, strict=True)]

    def _plain(self, texts: Sequence[str]) -> list[Ints]:
        if self._backend is None:
            return [_ids(self._tokenizer.encode(text, add_special_tokens=False)) for text in texts]
        return [_ids(row.ids) for row in self._backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _retry(self, text: str) -> Ints | RowError:
        for lead in _LEADS[1:]:
            [ids] = self._behind(lead, [text])
            if ids is not None:
                return ids
        return RowError("the answer cannot be tokenized apart from its prompt", "its first character joins any other")

    def _behind(self, lead: str, texts: Sequence[str]) -> list[Ints | None]:
        """Ids of texts without those of ``lead`` before them; None where a token joins the two."""
        if self._backend is None:
            alone = self._tokenizer.encode(lead, add_special_tokens=False)
            rows = [self._tokenizer.encode(lead + text, add_special_tokens=False) for text in texts]
            return [_ids(row[len(alone) :]) if row[: len(alone)] == alone else None for row in rows]
        found: list[Ints | None] = []
        for row in self._backend.encode_batch([lead + text for text in texts], add_special_tokens=False):
            first = next((at for at, (_, end) in enumerate(row.offsets) if end > len(lead)), len(row.ids))
            apart = first == len(row.ids) or row.offsets[first][0] >= len(lead)
            found.append(_ids(row.ids[first:]) if apart else None)
        return found


def _ids(ids: Sequence[int]) -> Ints:
    return np.array(ids, dtype=np.int32)
