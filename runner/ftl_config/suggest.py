"""Did you mean ...?"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that ``word`` was probably meant to be."""
    known = list(known)
    plain = word.lower().replace("-", "_")
    if plain in known:
        return plain
    matches = difflib.get_close_matches(plain, known, n=1, cutoff=0.72)
    if matches:
        return matches[0]
    ends = [name for name in known if len(plain) >= 5 and (name.endswith("_" + plain) or name.startswith(plain + "_"))]
    return min(ends, key=len) if ends else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The closest known word as a hint."""
    match = closest(word, known)
    return f"did you mean `{match}`?" if match else None
