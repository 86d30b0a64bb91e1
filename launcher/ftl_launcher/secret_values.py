"""Values of secrets: read at submission from the environment or a ``.env`` file, and cut out of what is printed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ftl_config.errors import FtlError

_MIN_REDACTED_LENGTH = 6
"""Shorter values (``1``, ``true``, ``test``) would blank out ordinary words."""

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


def collect_secrets(names: Sequence[str], env_file: Path | None = None) -> dict[str, str]:
    """The value of every name; the environment wins over the file.

    Raises:
        FtlError: some have no value (all are named), or the file cannot be read.
    """
    from_file = read_env_file(env_file) if env_file else {}
    values = {**from_file, **os.environ}
    missing = [name for name in names if not values.get(name)]
    if missing:
        raise FtlError(
            f"no value for {'secret' if len(missing) == 1 else 'secrets'} {', '.join(missing)}",
            hint=f"export {missing[0]}=... before launching, or put it in a file and pass --env-file",
        )
    return {name: values[name] for name in names}


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


class Redactor:
    """Replaces known secret values in text by ``***``."""

    def __init__(self, values: Iterable[str]) -> None:
        known = sorted({value for value in values if len(value) >= _MIN_REDACTED_LENGTH}, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, known))) if known else None

    @classmethod
    def from_environment(cls, names: Iterable[str], env: Mapping[str, str] | None = None) -> Redactor:
        values = os.environ if env is None else env
        return cls(values.get(name, "") for name in names)

    def __call__(self, text: str) -> str:
        return self._pattern.sub("***", text) if self._pattern else text


def _unquote(value: str) -> str:
    value = value.strip()
    if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value.split(" #", 1)[0].rstrip()
