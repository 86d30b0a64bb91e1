"""Cutting secrets out of text: both halves do it to whatever they print or write."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping

_MIN_REDACTED_LENGTH = 6
"""Shorter values (``1``, ``true``, ``test``) would blank out ordinary words."""


class Redactor:
    """Replaces known secret values in text by ``***``."""

    def __init__(self, values: Iterable[str]) -> None:
        known = sorted({value for value in values if len(value) >= _MIN_REDACTED_LENGTH}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    @classmethod
    def from_environment(cls, names: Iterable[str], env: Mapping[str, str] | None = None) -> Redactor:
        values = os.environ if env is None else env
        return cls(values.get(name, "") for name in names)

    def __call__(self, text: str) -> str:
        return self._pattern.sub("***", text) if self._pattern else text
