"""Long texts in pieces that tokenize as the whole does.

``tokenizers`` costs more a token the longer a text with special tokens is (each of them is cut out of the whole text).
It cuts a text at its special tokens before anything else happens, so a text may as well be cut there beforehand: the
ids are the same, and a conversation of 80 messages costs no more a token than one of 4.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

_PIECE_CHARS = 1000
"""A piece has at least so many characters: below, the number of calls begins to count."""


class TextCutter:
    """Cuts before one special token, that which the texts have most of."""

    def __init__(self, backend: Any) -> None:
        """``backend`` is a ``tokenizers.Tokenizer`` that puts nothing before a text."""
        tokens = _safe_tokens(list(backend.get_added_tokens_decoder().values()))
        self._tokens = re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True)))) if tokens else None
        self._token: str | None = None

    def cut(self, texts: Sequence[str]) -> list[list[str]]:
        """The pieces of each text, which are the text when they are put together."""
        if self._token is None and self._tokens is not None:
            counts = Counter(match for text in texts for match in self._tokens.findall(text))
            self._token = counts.most_common(1)[0][0] if counts else None
        token = self._token
        return [[text] if token is None else _cut_before(text, token) for text in texts]


def _cut_before(text: str, token: str) -> list[str]:
    pieces: list[str] = []
    start = 0
    while (stop := text.find(token, start + _PIECE_CHARS)) >= 0:
        pieces.append(text[start:stop])
        start = stop
    return [*pieces, text[start:]]


def _safe_tokens(added: Sequence[Any]) -> list[str]:
    """Tokens that are found in a text wherever they stand, and found before it is normalized.

    One that takes whitespace or word boundaries at its left into account is none, nor one that another token may
    cover or reach into.
    """
    contents = [token.content for token in added]
    return [
        token.content
        for token in added
        if token.special
        and not (token.normalized or token.lstrip or token.single_word)
        and token.content
        and not token.content[0].isspace()
        and not any(_reaches_into(other, token.content) for other in contents if other != token.content)
    ]


def _reaches_into(other: str, token: str) -> bool:
    return token in other or any(other.endswith(token[:length]) for length in range(1, len(token)))
