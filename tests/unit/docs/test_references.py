"""What the pages point at is there: links, files, names in files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.docs.pages import PAGES, ROOT, WRITTEN, anchors, code_spans, name_of, prose

ROOMS = [ROOT, ROOT / "launcher/ftl_launcher", ROOT / "runner/ftl_config", ROOT / "runner/ftl_runner"]
FOLDERS = ("launcher/", "runner/", "templates/", "tests/", "scripts/", "docs/", "locks/")
CODE_FILE = re.compile(r"[\w./-]+\.(py|sh|j2|toml)")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        goal = (page.parent / path) if path else page
        if not goal.exists() or (anchor and anchor not in anchors(goal)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_files_and_names_exist(page: Path) -> None:
    """``plan.py::make_plan`` is a file of some room, and it defines that name."""
    missing = []
    for span in code_spans(page):
        path, _, name = span.partition("::")
        if not (CODE_FILE.fullmatch(path) or (path.startswith(FOLDERS) and re.fullmatch(r"[\w./-]+", path))):
            continue
        files = [room / path for room in ROOMS if (room / path).exists()]
        if not files or (name and not any(_defines(file, name) for file in files)):
            missing.append(span)
    assert missing == []


def test_architecture_names_every_folder_of_a_room() -> None:
    """A new folder in a room is mentioned, so that a reader can find it."""
    text = (ROOT / "docs/architecture.md").read_text()
    folders = {path.parent.name for room in ROOMS[1:] for path in room.glob("*/__init__.py")}
    assert {folder for folder in folders if f"{folder}/" not in text} == set()


def _defines(file: Path, name: str) -> bool:
    return re.search(rf"^\s*((def|class) {name}\b|{name}\s*[:=])", file.read_text(), re.MULTILINE) is not None
