"""Write docs/cli.md from the help texts of every `ftl` command. Usage: python scripts/cli_reference.py [--check]"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from ftl_launcher.cli import cli

TARGET = Path(__file__).resolve().parent.parent / "docs/cli.md"
_WIDTH = 100
_INTRO = """\
# Command line

Generated from the commands' own help by `python scripts/cli_reference.py`; do not edit.
"""


def render_reference() -> str:
    """The whole page as Markdown."""
    sections = [f"## {path}\n\n```text\n{text}\n```\n" for path, text in _help_texts(cli, "ftl")]
    return "\n".join([_INTRO, *sections])


def _help_texts(command: click.Command, path: str, parent: click.Context | None = None) -> Iterator[tuple[str, str]]:
    """Full name and help of a command and of everything below it, in the order of the help."""
    name = path.rpartition(" ")[2]
    context = click.Context(command, parent=parent, info_name=name, terminal_width=_WIDTH, **command.context_settings)
    yield path, command.get_help(context).rstrip()
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _help_texts(below, f"{path} {name}", context)


def main() -> int:
    text = render_reference()
    if "--check" in sys.argv[1:]:
        fresh = TARGET.exists() and TARGET.read_text() == text
        if not fresh:
            sys.stderr.write(f"{TARGET.name} is stale: run python scripts/cli_reference.py\n")
        return int(not fresh)
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
