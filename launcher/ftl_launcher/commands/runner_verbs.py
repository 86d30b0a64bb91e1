"""Commands that are the runner's own: checked here at once, then this process becomes the runner."""

from __future__ import annotations

import os
import sys
import tempfile

import click

from ftl_launcher import configs
from ftl_launcher.commands.options import ConfigCommand, config_arguments
from ftl_launcher.runner_process import runner_python


def _become_runner(
    verb: str,
    source: str,
    overrides: tuple[str, ...],
    options: list[str],
    *,
    allow_unknown: bool,
    data_only: bool = False,
) -> None:
    """Validate, then replace this process: the runner has the terminal, its signals and its exit code to itself."""
    loaded = configs.load(source, overrides, allow_unknown=allow_unknown, data_only=data_only)
    if source == "-" or "://" in source:
        with tempfile.NamedTemporaryFile("w", suffix=".yml", prefix="ftl-config-", delete=False) as file:
            file.write(loaded.to_yaml())
        arguments = [file.name]
    else:
        arguments = [source, *(["--allow-unknown"] if allow_unknown else []), *overrides]
    _exec_runner(verb, *arguments, *options)


def _exec_runner(*arguments: str) -> None:
    python = runner_python()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(python, [python, "-m", "ftl_runner", *arguments])  # noqa: S606 - our own interpreter


def _list_types(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        _exec_runner("preprocess", "--list-types")


@click.command(cls=ConfigCommand)
@config_arguments
@click.option(
    "--list-types",
    is_flag=True,
    is_eager=True,  # like --help: CONFIG is not asked for
    expose_value=False,
    callback=_list_types,
    help="Show every dataset type with a row it reads; needs no CONFIG.",
)
@click.option("--debug", is_flag=True, help="Show examples with their tokens coloured by label.")
@click.option(
    "--debug-num-examples", type=click.IntRange(min=1), default=1, show_default=True, help="How many of them."
)
@click.option("--debug-text-only", is_flag=True, help="Show their text, coloured, without ids and labels.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave bad rows out and list them beside the prepared data.")
def preprocess(
    source: str,
    overrides: tuple[str, ...],
    allow_unknown: bool,
    debug: bool,
    debug_num_examples: int,
    debug_text_only: bool,
    skip_bad_rows: bool,
) -> None:
    """Tokenize, mask and pack CONFIG's datasets into the prepared cache."""
    overrides = (*overrides, "--skip-bad-rows") if skip_bad_rows else overrides
    shown = ["--debug-text-only"] if debug_text_only else ["--debug"]
    options = [*shown, f"--debug-num-examples={debug_num_examples}"] if debug or debug_text_only else []
    _become_runner("preprocess", source, overrides, options, allow_unknown=allow_unknown, data_only=True)


@click.command(cls=ConfigCommand)
@config_arguments
@click.option("--chat", is_flag=True, help="Hold a conversation instead of answering one prompt.")
@click.option(
    "--max-new-tokens", type=click.IntRange(min=1), default=256, show_default=True, help="Length of an answer."
)
@click.option("--show-prompt", is_flag=True, help="Print what the model is given, as JSON, on standard error.")
def inference(
    source: str,
    overrides: tuple[str, ...],
    allow_unknown: bool,
    chat: bool,
    max_new_tokens: int,
    show_prompt: bool,
) -> None:
    """Answer prompts with CONFIG's tuned model; a prompt may come from standard input."""
    flags = [*(["--chat"] if chat else []), *(["--show-prompt"] if show_prompt else [])]
    options = [*flags, f"--max-new-tokens={max_new_tokens}"]
    _become_runner("inference", source, overrides, options, allow_unknown=allow_unknown)


@click.command(cls=ConfigCommand)
@config_arguments
def evaluate(source: str, overrides: tuple[str, ...], allow_unknown: bool) -> None:
    """Loss and perplexity of CONFIG's model on its evaluation data."""
    _become_runner("evaluate", source, overrides, [], allow_unknown=allow_unknown)


@click.command(cls=ConfigCommand)
@config_arguments
def preflight(source: str, overrides: tuple[str, ...], allow_unknown: bool) -> None:
    """Check this machine for CONFIG: GPUs, driver, disk, shared memory, checkpoint store, clock."""
    _become_runner("preflight", source, overrides, [], allow_unknown=allow_unknown)


@click.command("merge-lora", cls=ConfigCommand)
@config_arguments
def merge_lora(source: str, overrides: tuple[str, ...], allow_unknown: bool) -> None:
    """Merge CONFIG's adapter into its base model."""
    _become_runner("merge-lora", source, overrides, [], allow_unknown=allow_unknown)
