"""The picture script: redraws resolved, colours kept."""

from __future__ import annotations

import runpy
from io import StringIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from rich.console import Console
from rich.live import Live

from tests.unit.docs.pages import ROOT

SCRIPT = runpy.run_path(str(ROOT / "scripts/terminal_picture.py"))


def screen_of(capture: str, width: int = 20) -> Any:
    screen = SCRIPT["Screen"](width)
    screen.write(capture)
    return screen.text()


@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        ("one\r\ntwo\r\n", "one\ntwo"),
        ("10%\r50%\r100%\r\ndone", "100%\ndone"),
        ("a\r\nb\r\n\x1b[2A\x1b[2Knew\r\n", "new\nb"),
        ("left over\r\x1b[Kshort", "short"),
        ("kept\r\ngone\r\ngone\x1b[1A\r\x1b[J", "kept"),
        ("x" * 25, "x" * 20 + "\n" + "x" * 5),
        ("a\tb\bc", "a       c"),
        ("\x1b]0;title\x07\x1b[?25ltext\x1b[?25h", "text"),
        ("\u65e5\u672c|", "\u65e5\u672c|"),
        ("", ""),
    ],
)
def test_redraws_are_resolved(capture: str, expected: str) -> None:
    assert screen_of(capture).plain == expected


def test_colours_are_kept() -> None:
    text = screen_of("\x1b[1;31merror:\x1b[0m fine")
    assert text.plain == "error: fine"
    assert [(span.start, span.end, str(span.style)) for span in text.spans] == [(0, 6, "bold color(1)")]


def test_a_live_display_leaves_its_last_frame() -> None:
    stream = StringIO()
    console = Console(file=stream, force_terminal=True, width=40, legacy_windows=False)
    with Live(console=console, auto_refresh=False) as live:
        for step in range(5):
            live.update(f"step {step}\nloss {5 - step}", refresh=True)
            console.print(f"log {step}")
    captured = stream.getvalue().replace("\n", "\r\n")  # as a terminal passes it on
    lines = [line.rstrip() for line in screen_of(captured, 40).plain.splitlines()]
    assert lines == [*(f"log {step}" for step in range(5)), "step 4", "loss 1"]


def test_capture_files_lose_what_script_adds(tmp_path: Path) -> None:
    path = tmp_path / "capture.txt"
    path.write_bytes(
        b'Script started on 2020-01-01 [COMMAND="x"]\nfirst\r\nsecond\r\n\nScript done on 2020-01-01 [1]\n'
    )
    assert screen_of(SCRIPT["read_capture"](path)).plain == "first\nsecond"
    assert screen_of(SCRIPT["read_capture"](path, until="first")).plain == "first"
    with pytest.raises(ValueError, match="does not occur"):
        SCRIPT["read_capture"](path, until="third")


def test_picture_is_svg_with_title_and_text() -> None:
    picture = SCRIPT["make_picture"]("\x1b[32mok\x1b[0m\r\n", title="A run", width=40, command="ftl status")
    texts = [text for text in ElementTree.fromstring(picture).itertext() if text.strip()]
    assert {"ok", "A\xa0run"} <= set(texts) or {"ok", "A run"} <= set(texts)
    assert any("ftl\xa0status" in text for text in texts)
