"""Values of secrets, read at submission: from the environment, a ``.env`` file, or the operating system's keyring."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ftl_config.errors import FtlError

DEFAULT_ENV_FILE = Path(".env")
KEYRING_SERVICE = "ftl"

_MAY_BE_EMPTY = frozenset({"SKYPILOT_DOCKER_USERNAME", "SKYPILOT_DOCKER_PASSWORD"})
"""Set and empty, they have SkyPilot log in to the registry as the rented machine's own role."""

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


def collect_secrets(names: Sequence[str], env_file: Path | None = None) -> dict[str, str]:
    """The value of every name: from the environment, else the file, else the keyring of the operating system.

    Args:
        names: names of environment variables.
        env_file: ``NAME=value`` lines; ``.env`` in the current folder, where there is one, when left out.

    Raises:
        FtlError: some have no value (all are named), or the file cannot be read.
    """
    values = {name: os.environ[name] for name in names if os.environ.get(name) or _is_left_empty(name)}
    if missing := _without_value(names, values):
        found = _from_file(env_file)
        values |= {name: found[name] for name in missing if found.get(name)}
        values |= _from_keyring(_without_value(names, values))
    if missing := _without_value(names, values):
        raise FtlError(
            f"no value for {'secret' if len(missing) == 1 else 'secrets'} {', '.join(missing)}",
            hint=f"export {missing[0]}=... before launching, or put it in .env or a file for --env-file, or in the "
            f"keyring: ftl secrets set {missing[0]}",
        )
    return {name: values[name] for name in names}


def _without_value(names: Sequence[str], values: Mapping[str, str]) -> list[str]:
    return [name for name in names if not values.get(name) and not _is_left_empty(name)]


def _is_left_empty(name: str) -> bool:
    return name in _MAY_BE_EMPTY and os.environ.get(name) == ""


def _from_file(env_file: Path | None) -> dict[str, str]:
    if env_file is not None:
        return read_env_file(env_file)
    return read_env_file(DEFAULT_ENV_FILE) if DEFAULT_ENV_FILE.is_file() else {}


def names_in_env_file() -> frozenset[str]:
    """Names that ``.env`` in the current folder has values for; lines that are something else are left out."""
    try:
        lines = DEFAULT_ENV_FILE.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return frozenset()
    found = (_LINE.fullmatch(line.strip()) for line in lines)
    return frozenset(match[1] for match in found if match and _unquote(match[2]))


def _from_keyring(names: Sequence[str]) -> dict[str, str]:
    """What `ftl secrets set` has put there; nothing where keyring is not installed or finds none to ask."""
    try:
        keyring = import_keyring()
        return {name: value for name in names if (value := keyring.get_password(KEYRING_SERVICE, name))}
    except Exception:  # not installed, locked, or without a desktop session: each backend has errors of its own
        return {}


def import_keyring() -> Any:
    """The keyring library.

    Raises:
        FtlError: it is not installed.
    """
    try:
        import keyring
    except ImportError as error:
        raise FtlError("keyring is not installed here", hint="pip install 'ftl-tune[keyring]'") from error
    return keyring


def read_env_file(path: Path) -> dict[str, str]:
    """``NAME=value`` lines; quotes around a value, ``export`` and ``#`` comments are understood.

    Raises:
        FtlError: the file is missing or a line in it is something else (named by its number, never quoted).
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise FtlError(f"cannot read the env file {path}: {error.strerror}", exit_code=2) from error
    values = {}
    for number, line in enumerate(lines, start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = _LINE.fullmatch(text)
        if match is None:
            raise FtlError(f"{path}, line {number}: not a NAME=value line", exit_code=2)
        values[match[1]] = _unquote(match[2])
    return values


def _unquote(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value.split(" #", 1)[0].rstrip()
