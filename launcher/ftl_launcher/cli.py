"""``ftl``: the command line. A command's module is imported when that command runs, and not before."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

# name -> (module below ftl_launcher.commands, its click command, one line of help)
COMMANDS: dict[str, tuple[str, str, str]] = {
    "launch": ("launch", "launch", "Run a config: here, on a Ray cluster, or on any cloud."),
    "check": ("check", "check", "Everything that a launch needs, looked at without launching."),
    "rehearse": ("rehearse", "rehearse", "The whole job here, small, before it costs anything."),
    "render": ("render", "render", "Print exactly what `ftl launch` would submit."),
    "train": ("train", "train", "Train in this terminal, without the launcher."),
    "status": ("status", "status", "State and progress of runs."),
    "logs": ("logs", "logs", "Output of a run; -f follows it."),
    "cancel": ("cancel", "cancel", "Stop a run; it saves a checkpoint first."),
    "down": ("down", "down", "End runs at once and free their machines."),
    "resume": ("resume", "resume", "Go on with a run that had stopped."),
    "runs": ("runs", "runs", "All runs on record."),
    "cost": ("cost", "cost", "What runs have cost."),
    "queue": ("queue", "queue", "What waits and what runs."),
    "ssh": ("ssh", "ssh", "A shell where a run runs."),
    "open": ("open", "open_", "The dashboard page of a run."),
    "pull": ("pull", "pull", "Fetch the model or a checkpoint of a run."),
    "config": ("config", "config", "Check, explain and describe configs."),
    "estimate": ("estimate", "estimate", "Predict the memory that training takes, and what would lower it."),
    "preprocess": ("runner_verbs", "preprocess", "Tokenize and pack the datasets ahead of training."),
    "inference": ("runner_verbs", "inference", "Talk to a model or a tuned adapter."),
    "evaluate": ("runner_verbs", "evaluate", "Evaluate a model on the config's evaluation data."),
    "merge-lora": ("runner_verbs", "merge_lora", "Merge an adapter into its base model."),
    "secrets": ("secrets", "secrets", "Keep values of secrets in the keyring."),
    "preflight": ("runner_verbs", "preflight", "Check this machine, as every node is checked before training."),
    "images": ("images", "images", "Build, list and check container images."),
    "fetch": ("fetch", "fetch", "Copy examples, DeepSpeed configs or the demo here."),
    "completion": ("completion", "completion", "Completion of commands, runs and keys for your shell."),
    "doctor": ("doctor", "doctor", "What is installed and reachable, and what to do about the rest."),
}

_DEBUG_FLAG = "--debug"
_HELP_FLAGS = ["-h", "--help"]


class LazyGroup(click.Group):
    """A group that knows its commands by name and help line, and imports one to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(f"ftl_launcher.commands.{module}"), attribute)
        assert isinstance(command, click.Command)
        return _with_short_help_flag(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name in COMMANDS or name.startswith("-"):
            return super().resolve_command(ctx, args)
        if name.replace("_", "-") in COMMANDS:
            return super().resolve_command(ctx, [name.replace("_", "-"), *args[1:]])
        raise click.UsageError(f"no such command {name!r}.{_did_you_mean(name)}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, _, help_line) in COMMANDS.items()])


def _with_short_help_flag(command: click.Command) -> click.Command:
    """-h for a command and those below it: click keeps the names of the first call, whatever the group's are then."""
    command.context_settings.setdefault("help_option_names", _HELP_FLAGS)
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        _with_short_help_flag(below)
    return command


def _did_you_mean(name: str) -> str:
    import difflib

    if name.endswith((".yml", ".yaml")):
        return f" Did you mean `ftl launch {name}` or `ftl train {name}`?"
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        from ftl_launcher.versions import ftl_version

        click.echo(f"ftl {ftl_version()}")
        ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": _HELP_FLAGS},
    epilog="`ftl COMMAND --help` says more. --debug, anywhere, shows tracebacks.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="The version."
)
def cli() -> None:
    """Fine-tune LLMs anywhere, from one YAML."""


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of the console script."""
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run one command line; the one place where errors become messages and exit codes."""
    argv, debug = _take_debug_flag(argv)
    try:
        result = cli.main(args=argv, prog_name="ftl", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        return _reader_gone()
    except SystemExit as stop:
        # click turns a broken pipe into an exit of its own, and marks stdout with a wrapper.
        if isinstance(sys.stdout, click.utils.PacifyFlushWrapper):
            return _reader_gone()
        return stop.code if isinstance(stop.code, int) else 0
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\n")
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        return _report(error, debug)
    return result if isinstance(result, int) else 0


def _reader_gone() -> int:
    """The reader went away (`ftl logs RUN | head`): no more output, and no complaint when the interpreter exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 141


def _take_debug_flag(argv: list[str]) -> tuple[list[str], bool]:
    """``--debug`` means the same wherever it stands, but for `preprocess`, which has its own, and behind ``--``."""
    end = argv.index("--") if "--" in argv else len(argv)
    if "preprocess" in argv[:end]:
        end = argv.index("preprocess")
    rest = [arg for arg in argv[:end] if arg != _DEBUG_FLAG] + argv[end:]
    return rest, len(rest) < len(argv) or bool(os.environ.get("FTL_DEBUG"))


def _report(error: Exception, debug: bool) -> int:
    from ftl_config.errors import ConfigError, FtlError
    from ftl_launcher.console import print_error, print_report

    if debug:
        import traceback

        traceback.print_exc()
    if isinstance(error, ConfigError):
        print_report(error.message)
        return error.exit_code
    if isinstance(error, FtlError):
        print_error(error.message, error.hint)
        return error.exit_code
    print_error(f"{type(error).__name__}: {error}", "this is a bug in ftl; --debug shows where")
    return 1
