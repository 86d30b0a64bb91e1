"""The hint to a name that nothing has."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def suggest(name: str, known: Collection[str], *, besides: str = "") -> str:
    """``did you mean X?`` where a known name is close, else all that are known, and what there is ``besides``."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}{besides}"
