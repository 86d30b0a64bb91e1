"""Reading one entry of ``unfrozen_parameters``: a regular expression, and rows where it ends in a range."""

from __future__ import annotations

import re
from dataclasses import dataclass

_RANGE = re.compile(r"^(?P<pattern>.+)\[(?P<first>\d*)(?P<colon>:?)(?P<last>\d*)\]$")


@dataclass(frozen=True, slots=True)
class Unfrozen:
    """``first`` is None where no range is given; ``last`` is exclusive, None to the end."""

    regex: re.Pattern[str]
    first: int | None = None
    last: int | None = None


def parse_unfrozen(entry: str) -> Unfrozen:
    r"""An entry such as ``^model.embed_tokens.weight$[:32000]`` or ``model.layers.2[0-9]+.mlp``.

    As in Axolotl, a dot is a dot of the name, unless something repeats it (``.*``), and the expression has to match
    from the beginning of the name.

    Raises:
        ValueError: not a regular expression, or an empty range.
    """
    pattern, first, last = entry, None, None
    found = _RANGE.match(entry)
    if found is not None and (found["first"] or found["colon"]) and (found["colon"] or not found["last"]):
        pattern = found["pattern"]
        first = int(found["first"] or 0)
        last = int(found["last"]) if found["last"] else None if found["colon"] else first + 1
        if last is not None and first >= last:
            raise ValueError(f"the range {first}:{last} is empty")
    try:
        regex = re.compile(re.sub(r"(?<!\\)\.(?![+*?{])", r"\\.", pattern))
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return Unfrozen(regex, first, last)
