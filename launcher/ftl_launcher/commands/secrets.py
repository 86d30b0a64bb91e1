"""``ftl secrets``: values of secrets in the operating system's keyring, so that they stand in no file."""

from __future__ import annotations

import sys

import click

from ftl_config.errors import FtlError
from ftl_launcher.console import say
from ftl_launcher.secret_values import KEYRING_SERVICE, import_keyring


@click.group()
def secrets() -> None:
    """Keep values of secrets in the keyring of the operating system; launches look there last."""


@secrets.command("set")
@click.argument("name")
def set_(name: str) -> int:
    """Ask for the value of NAME, or read it from standard input, and keep it."""
    keyring = import_keyring()
    value = click.prompt(name, hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not name.isidentifier() or not value:
        raise FtlError(f"{name!r} needs the name of a variable and a value", exit_code=2)
    try:
        keyring.set_password(KEYRING_SERVICE, name, value)
    except Exception as error:  # each backend has errors of its own
        raise FtlError(f"the keyring did not take {name}: {error}", hint=_BACKEND_HINT) from error
    say(f"{name} is in the keyring; name it in launch.secrets, or with --secret {name}")
    return 0


@secrets.command("remove")
@click.argument("name")
def remove(name: str) -> int:
    """Forget the value of NAME."""
    keyring = import_keyring()
    try:
        keyring.delete_password(KEYRING_SERVICE, name)
    except Exception as error:
        raise FtlError(f"the keyring did not forget {name}: {error}", hint=_BACKEND_HINT) from error
    return 0


_BACKEND_HINT = "`python -m keyring diagnose` says which keyring is used here"
