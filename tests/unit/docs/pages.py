"""The documentation's pages, and the parts of them that can be checked."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
GENERATED = {ROOT / "docs" / name for name in ("cli.md", "config-reference.md", "model-families.md")}
WRITTEN = [page for page in PAGES if page not in GENERATED]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path, language: str) -> list[str]:
    """The contents of the fenced blocks of a language."""
    return [text for found, text in _FENCE.findall(page.read_text()) if found == language]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def code_spans(page: Path) -> Iterator[str]:
    """What stands between backticks in running text, with line breaks read as spaces."""
    for span in re.findall(r"`([^`]+)`", prose(page)):
        yield " ".join(span.split())


def anchors(page: Path) -> set[str]:
    """Link targets of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
