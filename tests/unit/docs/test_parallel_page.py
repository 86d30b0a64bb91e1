"""docs/parallel.md says what ships and what is compared; both are looked up here."""

from __future__ import annotations

import re

from ftl_config.deepspeed import SHIPPED_NAMES
from tests.invariant.test_parallel import CLASSES, ESSENTIAL, FAMILIES, MORE, TOLERANCE
from tests.unit.docs.pages import ROOT

PAGE = (ROOT / "docs/parallel.md").read_text()


def matrix() -> str:
    """The classes of tests/invariant/test_parallel.py as a table."""
    lines = ["| | " + " | ".join(FAMILIES) + " |", "|---" * (len(FAMILIES) + 1) + "|"]
    for name in CLASSES:
        cells = [_cell(family, name) for family in FAMILIES]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(family: str, name: str) -> str:
    if name in ESSENTIAL.get(family, ()):
        return "**always**"
    return "on request" if name in MORE.get(family, ()) else ""


def test_the_table_is_what_is_compared() -> None:
    assert matrix() in PAGE, f"docs/parallel.md should hold\n{matrix()}"
    assert f"{TOLERANCE:.0e}".replace("e-0", "e-") in PAGE


def test_the_files_are_those_that_ship() -> None:
    listed = re.search(r"<!-- shipped -->\n(.*)\n<!-- /shipped -->", PAGE)
    assert listed is not None
    assert tuple(listed[1].split(", ")) == SHIPPED_NAMES
