"""Amounts of memory as people write them: ``20GiB``, ``20000MB``."""

from __future__ import annotations

import re

_UNITS = {"B": 1} | {
    f"{letter}{suffix}": base**power
    for power, letter in enumerate("KMGT", start=1)
    for suffix, base in (("iB", 2**10), ("B", 10**3))
}
_BY_NAME = {name.upper(): size for name, size in _UNITS.items()}


def parse_memory_size(value: int | str, *, unit: str) -> int:
    """Bytes of an amount; a number without a unit is in ``unit``.

    Raises:
        ValueError: it is not an amount, or nothing.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    if found is None or (found[2] and found[2].upper() not in _BY_NAME):
        raise ValueError(f"{value!r} is not an amount of memory")
    size = int(float(found[1]) * _BY_NAME[(found[2] or unit).upper()])
    if size <= 0:
        raise ValueError("it would leave no memory at all")
    return size
