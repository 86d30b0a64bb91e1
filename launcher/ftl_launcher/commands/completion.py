"""``ftl completion``: the script by which a shell completes ftl's commands, runs, config keys and files."""

from __future__ import annotations

import os
from pathlib import Path

import click
from click.shell_completion import get_completion_class

from ftl_config.errors import FtlError

SHELLS = ("bash", "zsh", "fish")
_VARIABLE = "_FTL_COMPLETE"  # what click looks at when a program called ftl starts


@click.command()
@click.argument("shell", required=False, type=click.Choice(SHELLS))
def completion(shell: str | None) -> int:
    """Print the completion script of SHELL, the shell you are in when it is left out.

    bash and zsh: eval "$(ftl completion)" in ~/.bashrc or ~/.zshrc. fish: ftl completion fish >
    ~/.config/fish/completions/ftl.fish
    """
    from ftl_launcher.cli import cli

    script = get_completion_class(shell or _own_shell())
    assert script is not None
    click.echo(script(cli, {}, "ftl", _VARIABLE).source())
    return 0


def _own_shell() -> str:
    name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise FtlError(
            f"no completion for the shell {name or 'that $SHELL does not name'}",
            hint=f"name one: ftl completion {'|'.join(SHELLS)}",
            exit_code=2,
        )
    return name
