"""Turn captured terminal output into an SVG: what the terminal showed when the capture ended.

Usage:
  script -qec "ftl launch config.yml" capture.txt        (util-linux; stty cols 110 first)
  python scripts/terminal_picture.py capture.txt docs/demo.svg --title "ftl launch" --width 110

Redraws are resolved: carriage returns, cursor movements and erasures, which is all that live displays use. Lines that
have scrolled away are kept. ``--until TEXT`` stops right after the first TEXT, to show a display that erases itself.
"""

from __future__ import annotations

import argparse
import io
import re
import sys
from pathlib import Path

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

_TOKEN = re.compile(
    r"\x1b\[(?P<args>[0-9;?]*)(?P<final>[@-~])"  # control sequences: movement, erasure, colour
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # window titles and links
    r"|\x1b[()][0-9A-B]|\x1b[=>78]"  # character sets, keypad modes
    r"|(?P<char>[\s\S])"
)
_SCRIPT_LINES = re.compile(r"^Script started on [^\n]*\n|\n?Script done on [^\n]*\n?$")
_TAB_WIDTH = 8

Cell = tuple[str, str]
"""A character and the colour sequence it is drawn in; the right half of a wide character is an empty one."""


class Screen:
    """Endless paper of a fixed width with a cursor on it."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.lines: list[list[Cell]] = [[]]
        self.row = self.column = 0
        self.style = ""

    def write(self, text: str) -> None:
        for token in _TOKEN.finditer(text):
            if token["char"] is not None:
                self._character(token["char"])
            elif token["final"] is not None:
                self._control(token["final"], token["args"])

    def text(self) -> Text:
        """What stands on the paper, empty lines at the end left out."""
        lines = ["".join(self._coloured(line)).rstrip() for line in self.lines]
        return Text.from_ansi("\n".join(lines).rstrip())

    def _character(self, char: str) -> None:
        if char == "\n":
            self._move_to(self.row + 1, self.column)
        elif char == "\r":
            self.column = 0
        elif char == "\b":
            self.column = max(self.column - 1, 0)
        elif char == "\t":
            self.column = min((self.column // _TAB_WIDTH + 1) * _TAB_WIDTH, self.width - 1)
        elif char.isprintable():
            self._draw(char)

    def _draw(self, char: str) -> None:
        cells = cell_len(char)
        if self.column + cells > self.width:
            self._move_to(self.row + 1, 0)
        line = self.lines[self.row]
        line.extend([(" ", "")] * (self.column + cells - len(line)))
        line[self.column : self.column + cells] = [(char, self.style), ("", self.style)][:cells]
        self.column += cells

    def _control(self, final: str, args: str) -> None:
        first = int(match[0]) if (match := re.match(r"\d+", args)) else 0
        if final == "m":
            self.style = "" if args in ("", "0") else f"{self.style}\x1b[{args}m"
        elif final in "AB":
            self._move_to(self.row + (max(first, 1) if final == "B" else -max(first, 1)), self.column)
        elif final in "CD":
            self.column = max(self.column + (max(first, 1) if final == "C" else -max(first, 1)), 0)
        elif final == "G":
            self.column = max(first - 1, 0)
        elif final in "JK":
            self._erase(whole_line=first == 2, below=final == "J")

    def _erase(self, *, whole_line: bool, below: bool) -> None:
        self.lines[self.row] = [] if whole_line else self.lines[self.row][: self.column]
        if below:
            del self.lines[self.row + 1 :]

    def _move_to(self, row: int, column: int) -> None:
        self.row, self.column = max(row, 0), column
        while len(self.lines) <= self.row:
            self.lines.append([])

    @staticmethod
    def _coloured(line: list[Cell]) -> list[str]:
        parts, style = [], ""
        for char, wanted in line:
            if wanted != style:
                parts.append(f"\x1b[0m{wanted}")
                style = wanted
            parts.append(char)
        return [*parts, "\x1b[0m"] if style else parts


def read_capture(path: Path, until: str | None = None) -> str:
    """The captured text, without what `script` writes around it.

    Raises:
        ValueError: ``until`` does not occur in it.
    """
    text = path.read_bytes().decode("utf-8", errors="replace")
    text = _SCRIPT_LINES.sub("", text)
    if until is None:
        return text
    end = text.find(until)
    if end < 0:
        raise ValueError(f"{until!r} does not occur in {path}")
    return text[: end + len(until)]


def make_picture(capture: str, *, title: str, width: int, command: str | None = None) -> str:
    """SVG of the screen after a capture, below ``$ command`` where one is given. ``width`` is in columns."""
    screen = Screen(width)
    screen.write(capture)
    console = Console(record=True, width=width, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    if command:
        console.print(Text.assemble(("$ ", "green"), (command, "bold")), soft_wrap=True)
    console.print(screen.text(), soft_wrap=True)
    return console.export_svg(title=title)


def main() -> int:
    parser = argparse.ArgumentParser(description="Captured terminal output -> SVG.")
    parser.add_argument("capture", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--title", default="ftl")
    parser.add_argument("--width", type=int, default=110, help="columns of the terminal that was captured")
    parser.add_argument("--command", help="shown above the output, behind a $")
    parser.add_argument("--until", metavar="TEXT", help="stop right after the first TEXT")
    arguments = parser.parse_args()
    try:
        capture = read_capture(arguments.capture, arguments.until)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    picture = make_picture(capture, title=arguments.title, width=arguments.width, command=arguments.command)
    arguments.picture.write_text(picture, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
