"""``ftl train``: the runner in this terminal, started directly or by torchrun, deepspeed or Ray."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ftl_config.errors import FtlError
from ftl_config.protocol import Env
from ftl_config.redaction import Redactor
from ftl_launcher import configs
from ftl_launcher.child import run_child
from ftl_launcher.commands.options import LAUNCHER_ARGS, ConfigCommand, config_arguments, json_option
from ftl_launcher.console import print_error, print_json, say
from ftl_launcher.display import SilentDisplay, make_display
from ftl_launcher.preflight import check_inputs
from ftl_launcher.preflight_storage import check_checkpoint_store
from ftl_launcher.progress import Progress
from ftl_launcher.runner_process import runner_python
from ftl_launcher.secret_names import default_secret_names
from ftl_launcher.summary import print_summary

if TYPE_CHECKING:
    from ftl_config import LoadedConfig

_KILLED = 128 + 9
"""Exit code of a child that got SIGKILL, from the kernel as a rule."""
LAUNCHERS = ("single", "ray", "torchrun", "deepspeed")


@click.command(cls=ConfigCommand)
@config_arguments
@click.option(
    "--launcher", type=click.Choice(LAUNCHERS), help="Who starts the workers. [default: single, or ray with use_ray]"
)
@click.option("--skip-checks", is_flag=True, help="Do not look at local files and the checkpoint bucket first.")
@json_option
@click.pass_context
def train(
    ctx: click.Context,
    source: str,
    overrides: tuple[str, ...],
    allow_unknown: bool,
    launcher: str | None,
    skip_checks: bool,
    as_json: bool,
) -> int:
    """Train CONFIG in this terminal. What stands behind -- goes to torchrun or deepspeed."""
    loaded = configs.load(source, overrides, allow_unknown=allow_unknown)
    launcher = launcher or ("ray" if loaded.config.distributed.use_ray else "single")
    launcher_args: list[str] = ctx.meta[LAUNCHER_ARGS]
    if launcher_args and launcher in ("single", "ray"):
        raise FtlError(
            f"--launcher {launcher} takes no arguments behind --", hint=f"given: {launcher_args}", exit_code=2
        )
    uri = loaded.config.checkpointing.checkpoint or loaded.config.checkpointing.output_dir
    if not skip_checks:
        check_inputs(loaded, Path.cwd(), runs_here=True)
        if "://" in uri and (warning := check_checkpoint_store(uri, {})):
            say(f"note: {warning}")
    with _config_file(loaded, source, overrides, allow_unknown) as arguments:
        argv = train_command(runner_python(), launcher, launcher_args, arguments)
        return _run(argv, _environment(launcher, uri), title=Path(source).stem, as_json=as_json)


def train_command(python: str, launcher: str, launcher_args: list[str], arguments: list[str]) -> list[str]:
    """The argv that trains. Pure.

    Args:
        python: interpreter that has the runner.
        launcher: one of LAUNCHERS.
        launcher_args: for torchrun or deepspeed.
        arguments: what follows the runner's ``train`` verb.
    """
    verb = ["ftl_runner", "train", *arguments]
    if launcher == "torchrun":
        return [python, "-m", "torch.distributed.run", *launcher_args, "-m", *verb]
    if launcher == "deepspeed":
        # --no_local_rank: the rank comes through the environment; as a flag it would read as a config override.
        return [python, "-m", "deepspeed.launcher.runner", *launcher_args, "--no_local_rank", "--module", *verb]
    return [python, "-m", *verb]


@contextmanager
def _config_file(
    loaded: LoadedConfig, source: str, overrides: tuple[str, ...], allow_unknown: bool
) -> Iterator[list[str]]:
    """The runner's arguments: a path and its flags as they were typed, anything else as a file of the resolved config.

    Standard input can be read once only, and an address may answer differently the second time.
    """
    if source != "-" and "://" not in source:
        yield [source, *(["--allow-unknown"] if allow_unknown else []), *overrides]
        return
    with tempfile.NamedTemporaryFile("w", suffix=".yml", prefix="ftl-config-") as file:
        file.write(loaded.to_yaml())
        file.flush()
        yield [file.name]


def _environment(launcher: str, checkpoint_uri: str) -> dict[str, str]:
    own = {str(Env.EVENTS): "stdout", str(Env.EXECUTOR): launcher, "PYTHONUNBUFFERED": "1"}
    return {str(Env.CHECKPOINT_URI): checkpoint_uri, **os.environ, **own}


def _run(argv: list[str], env: dict[str, str], *, title: str, as_json: bool) -> int:
    display = SilentDisplay() if as_json else make_display(title)
    try:
        code, progress = run_child(argv, env, display, Redactor.from_environment(default_secret_names()))
    finally:
        display.close()
    code = runner_exit_code(code, progress)
    if as_json:
        print_json({"exit_code": code, **progress.to_dict()})
        return code
    print_summary(progress, title, progress.status or ("succeeded" if code == 0 else "failed"))
    _report_failure(code, progress)
    return code


def runner_exit_code(code: int, progress: Progress) -> int:
    """The runner's own exit code: torchrun and deepspeed turn every failure of their workers into 1."""
    return progress.exit_code if code == 1 and progress.exit_code else code


def _report_failure(code: int, progress: Progress) -> None:
    if progress.error:
        print_error(progress.error, progress.hint)
    elif code == _KILLED and progress.status not in ("cancelled", "preempted"):
        hint = "the machine ran out of memory, if nobody killed it: `ftl estimate` says which keys lower what is needed"
        print_error("the runner was killed (signal 9)", hint)
    elif code and progress.status not in ("cancelled", "preempted"):
        print_error(f"the runner ended with exit code {code}", "its last lines above say why")
