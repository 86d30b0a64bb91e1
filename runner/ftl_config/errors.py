"""Errors that a user can act on: one line (or one report) without a traceback."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Severity = Literal["error", "warning"]

BAD_CONFIG_EXIT_CODE = 2
"""``protocol.ExitCode.BAD_CONFIG``, not imported: every command pays for what this module imports."""


class FtlError(Exception):
    """A failure that is the user's to fix.

    Caught at one place in each program, which prints ``message``, then ``hint`` when there is one, and exits with
    ``exit_code``.
    """

    def __init__(self, message: str, hint: str | None = None, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code

    def __reduce__(self) -> tuple[type[FtlError], tuple[object, ...]]:
        """Survive pickling: the runner hands errors from workers to the driver."""
        return type(self), (self.message, self.hint, self.exit_code)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong (or worth a word) in a config, and where it stands.

    ``line`` and ``column`` count from 1; they are None for a value that came from a flag or is missing.
    ``file`` is the source's name, or the flag (``--learning-rate``) for an override.
    """

    severity: Severity
    key: str
    message: str
    hint: str | None = None
    file: str | None = None
    line: int | None = None
    column: int | None = None

    @property
    def location(self) -> str:
        """``config.yml:3:5``, as editors and terminals make it clickable; the flag's or file's name alone otherwise."""
        parts = [part for part in (self.file, self.line, self.column) if part is not None]
        return ":".join(str(part) for part in parts)

    def __str__(self) -> str:
        place = f"{self.location}: " if self.location else ""
        key = f"{self.key}: " if self.key else ""
        hint = f"\n    {self.hint}" if self.hint else ""
        return f"{place}{self.severity}: {key}{self.message}{hint}"


class ConfigError(FtlError):
    """A config that cannot be used, with every problem that was found in it (warnings included)."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        errors = [problem for problem in self.problems if problem.severity == "error"]
        lines = [str(problem) for problem in self.problems]
        if len(errors) > 1:
            lines.append(f"{len(errors)} errors in the config")
        super().__init__("\n".join(lines), exit_code=BAD_CONFIG_EXIT_CODE)

    def __reduce__(self) -> tuple[type[FtlError], tuple[object, ...]]:
        return type(self), (self.problems,)
