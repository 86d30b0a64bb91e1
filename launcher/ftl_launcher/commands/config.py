"""``ftl config``: check, show, schema."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import click

from ftl_launcher.commands.options import ConfigCommand, config_arguments, json_option
from ftl_launcher.console import print_json, say

if TYPE_CHECKING:
    from ftl_config import LoadedConfig, Row


@click.group()
def config() -> None:
    """Check, explain and describe configs."""


@config.command(cls=ConfigCommand)
@config_arguments
@click.option("--partial", is_flag=True, help="Do not ask for completeness (base_model, datasets, ...).")
@json_option
def check(source: str, overrides: tuple[str, ...], allow_unknown: bool, partial: bool, as_json: bool) -> int:
    """Validate CONFIG: every problem at once, exit code 2 if there is one."""
    from ftl_config import ConfigError, load_config

    try:
        loaded = load_config(source, list(overrides), allow_unknown=allow_unknown, partial=partial)
    except ConfigError as error:
        if not as_json:
            raise
        print_json({"valid": False, "problems": [dataclasses.asdict(problem) for problem in error.problems]})
        return error.exit_code
    if as_json:
        problems = [dataclasses.asdict(warning) for warning in loaded.warnings]
        print_json({"valid": True, "problems": problems, "digest": loaded.digest})
        return 0
    for warning in loaded.warnings:
        say(str(warning))
    click.echo(f"{loaded.source_name}: ok{_count(loaded)}")
    return 0


def _count(loaded: LoadedConfig) -> str:
    number = len(loaded.warnings)
    return f" ({number} warning{'s' if number > 1 else ''})" if number else ""


@config.command(cls=ConfigCommand)
@config_arguments
@click.option("--all", "show_all", is_flag=True, help="Defaults too.")
@click.option("--yaml", "as_yaml", is_flag=True, help="The resolved config as YAML: what a launched run gets.")
@json_option
def show(
    source: str, overrides: tuple[str, ...], allow_unknown: bool, show_all: bool, as_yaml: bool, as_json: bool
) -> int:
    """Print what CONFIG comes to, each value with where it is from: default, file and line, or flag."""
    from ftl_config import describe
    from ftl_launcher import configs

    loaded = configs.load(source, overrides, allow_unknown=allow_unknown, partial=True)
    if as_yaml:
        click.echo(loaded.to_yaml(), nl=False)
        return 0
    rows = [row for row in describe(loaded) if show_all or row.origin.kind != "default"]
    if as_json:
        print_json([{"key": row.key, "value": _plain(row.value), "origin": str(row.origin)} for row in rows])
    else:
        _print_rows(rows)
    return 0


@config.command()
@click.option("-o", "--output", type=click.Path(dir_okay=False, writable=True), help="File to write instead of stdout.")
def schema(output: str | None) -> int:
    """Print the JSON Schema of configs, for editors."""
    from ftl_config import config_schema

    text = json.dumps(config_schema(), indent=2, ensure_ascii=False)
    if output is None:
        click.echo(text)
    else:
        with click.open_file(output, "w") as file:
            file.write(text + "\n")
    return 0


def _print_rows(rows: list[Row]) -> None:
    widest = max((len(row.key) for row in rows), default=0)
    values = [json.dumps(_plain(row.value), ensure_ascii=False) for row in rows]
    column = min(max((len(value) for value in values), default=0), 60)
    for row, value in zip(rows, values, strict=True):
        click.echo(f"{row.key:<{widest}}  {value:<{column}}  # {row.origin}")


def _plain(value: Any) -> Any:
    """JSON values of a config value; sections and dataset entries as the keys that were set in them."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
