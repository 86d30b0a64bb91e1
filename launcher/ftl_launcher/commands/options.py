"""Arguments and options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from ftl_config.errors import FtlError
from ftl_launcher.completion import complete_file, complete_key, complete_run

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])

LAUNCHER_ARGS = "ftl.launcher_args"
"""Key in click's context of what stood behind ``--``."""

_PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": True, "help_option_names": ["-h", "--help"]}

_EPILOG = (
    "Every key of the config can be given as a flag: --learning-rate 1e-4, --no-bf16, --launch.nodes=2. "
    "CONFIG is a path, - for standard input, or an https:// address."
)


class ConfigCommand(click.Command):
    """A command on a config: unknown options are config keys, and ``--`` ends what is ours."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("context_settings", _PASS_ON)
        kwargs.setdefault("epilog", _EPILOG)
        super().__init__(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        end = args.index("--") if "--" in args else len(args)
        ctx.meta[LAUNCHER_ARGS] = args[end + 1 :]
        return super().parse_args(ctx, args[:end])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        found = super().shell_complete(ctx, incomplete)
        if not incomplete.startswith("--"):
            return found
        ours = {item.value for item in found}
        return found + [item for item in complete_key(incomplete) if item.value not in ours]


def config_arguments(command: AnyCommand) -> AnyCommand:
    """``CONFIG [--KEY VALUE]...``, handed over as ``source`` and ``overrides``."""
    command = click.option("--allow-unknown", is_flag=True, help="Unknown keys are warnings.")(command)
    command = click.argument("overrides", nargs=-1, type=click.UNPROCESSED, metavar="[--KEY VALUE]...")(command)
    return click.argument("source", metavar="CONFIG", callback=_check_source, shell_complete=complete_file)(command)


def run_argument(command: AnyCommand) -> AnyCommand:
    """``RUN``, the name of a run on record."""
    return click.argument("run", shell_complete=complete_run)(command)


def env_file_option(command: AnyCommand) -> AnyCommand:
    return click.option(
        "--env-file", type=click.Path(path_type=Path), metavar="FILE", help="NAME=value lines for secrets."
    )(command)


def json_option(command: AnyCommand) -> AnyCommand:
    return click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")(command)


_LAUNCH_FLAGS = (
    ("backend", "local, docker, ray, kuberay, skypilot, dstack; worked out from the rest when left out."),
    ("cloud", "aws, gcp, azure, lambda, runpod, kubernetes, slurm, ...; several with commas."),
    ("region", "Region of that cloud."),
    ("zone", "Zone of that region."),
    ("accelerators", "Per node, such as H100:8."),
    ("nodes", "Number of machines."),
    ("image", "Container image."),
    ("ray-address", "Jobs API of a Ray cluster, such as http://head:8265."),
    ("workdir", "Folder to copy to the nodes and run in."),
    ("max-hours", "Save and stop after so many hours on the machines."),
    ("max-cost", "Save and stop after so many dollars."),
)


def launch_options(command: AnyCommand) -> AnyCommand:
    """Short spellings of keys of the launch section, handed over as one mapping ``launch_flags``."""
    for name, help_text in reversed(_LAUNCH_FLAGS):
        command = click.option(f"--{name}", metavar="X", expose_value=False, callback=_keep_flag, help=help_text)(
            command
        )
    command = click.option(
        "--spot/--no-spot",
        default=None,
        expose_value=False,
        callback=_keep_flag,
        help="Machines that may be taken away.",
    )(command)
    command = click.option("--name", metavar="RUN", help="Name of the run; made from the file's name when left out.")(
        command
    )
    command = click.option("--env", "env", multiple=True, metavar="K=V", help="Environment variable of the run.")(
        command
    )
    return click.option(
        "--secret", "secrets", multiple=True, metavar="NAME", help="Pass on this variable as a secret."
    )(command)


def flag_overrides(ctx: click.Context) -> list[str]:
    """The flags of `launch_options` as overrides of the config."""
    found: dict[str, Any] = ctx.meta.get("ftl.launch_flags", {})
    return [
        f"--launch.{key}={str(value).lower() if isinstance(value, bool) else value}" for key, value in found.items()
    ]


def parse_env(pairs: tuple[str, ...]) -> dict[str, str]:
    """``K=V`` pairs.

    Raises:
        FtlError: no ``=`` in one, or a name that the launcher itself sets.
    """
    values = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name.isidentifier():
            raise FtlError(f"--env {name!r}: write NAME=value", hint="secrets go by name: --secret NAME", exit_code=2)
        if name.startswith("FTL_"):
            raise FtlError(f"--env {name}: variables that begin with FTL_ are ftl's own", exit_code=2)
        values[name] = value
    return values


def _keep_flag(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None and param.name is not None:
        ctx.meta.setdefault("ftl.launch_flags", {})[param.name] = value


def _check_source(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if value.startswith("-") and value != "-":
        raise click.UsageError(f"the config comes before its overrides: got {value!r} first", ctx)
    return value
