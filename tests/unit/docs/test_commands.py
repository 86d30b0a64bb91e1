"""Commands that the pages show exist, take the options shown, and print what is shown."""

from __future__ import annotations

import re
import runpy
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from ftl_config import ConfigError, load_config
from ftl_config.protocol import ExitCode
from ftl_launcher.cli import COMMANDS, cli
from ftl_launcher.commands.options import ConfigCommand, flag_overrides
from tests.unit.docs.pages import ROOT, WRITTEN, blocks, code_spans, name_of

README = ROOT / "README.md"


def shown(program: str) -> Iterator[list[str]]:
    """Arguments of every command line of a program in the pages' console blocks."""
    for page in WRITTEN:
        for block in blocks(page, "console"):
            for line in block.splitlines():
                words = shlex.split(line.removeprefix("$ "))
                if line.startswith("$ ") and words[0] == program:
                    yield words[1:]


@pytest.mark.parametrize("arguments", list(shown("ftl")), ids=" ".join)
def test_ftl_commands_parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    command: click.Command | None = cli
    rest = arguments
    while isinstance(command, click.Group):
        command, rest = command.get_command(click.Context(command), rest[0]), rest[1:]
    assert command is not None
    context = command.make_context(arguments[0], rest)
    if isinstance(command, ConfigCommand):
        # Unknown options are overrides of the config: load it with them.
        load_config(context.params["source"], [*context.params["overrides"], *flag_overrides(context)])


@pytest.mark.parametrize("page", WRITTEN, ids=name_of)
def test_commands_in_running_text_exist(page: Path) -> None:
    words = [span.split()[1] for span in code_spans(page) if re.match(r"ftl [a-z]", span)]
    assert [word for word in words if word not in COMMANDS] == []


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {arguments[0] for arguments in shown("make")}
    wanted |= {span.split()[1] for page in WRITTEN for span in code_spans(page) if span.startswith("make ")}
    assert wanted
    assert wanted <= targets


def test_extras_exist() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    table = README.read_text().partition("| extra | for |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)`", table, re.MULTILINE)) <= extras
    assert all(arguments[1] in (".", *(f".[{extra}]" for extra in extras)) for arguments in shown("pip"))


def test_exit_codes_are_all_there() -> None:
    section = README.read_text().partition("## Exit codes")[2].partition("\n## ")[0]
    assert [int(code) for code in re.findall(r"^\| (\d+)", section, re.MULTILINE)] == sorted(map(int, ExitCode))


def test_the_error_in_the_readme_is_what_ftl_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (config,) = blocks(README, "yaml")
    (tmp_path / "wrong.yml").write_text(config)
    with pytest.raises(ConfigError) as caught:
        load_config("wrong.yml")
    (output,) = blocks(README, "text")
    assert output == f"$ ftl config check wrong.yml\n{caught.value.message}\n"


def test_cli_reference_is_fresh() -> None:
    written = runpy.run_path(str(ROOT / "scripts/cli_reference.py"))["render_reference"]()
    assert (ROOT / "docs/cli.md").read_text() == written, "stale: run python scripts/cli_reference.py"
