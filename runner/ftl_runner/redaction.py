"""Values of secrets are cut out of what a process of ours prints, before a log can keep them."""

from __future__ import annotations

import functools
import os
import sys
from typing import Any, TextIO

from ftl_config.errors import FtlError
from ftl_config.protocol import Env
from ftl_config.redaction import Redactor


@functools.cache
def redactor() -> Redactor:
    """Cuts out the values of the variables that the launcher named as secrets."""
    return Redactor.from_environment(os.environ.get(Env.SECRET_NAMES, "").split(","))


def redact_output() -> None:
    """Standard output and error of this process, from now on. What native code writes there itself is not seen."""
    if os.environ.get(Env.SECRET_NAMES) and not isinstance(sys.stdout, _RedactedStream):
        sys.stdout = _RedactedStream(sys.stdout)  # type: ignore[assignment]
        sys.stderr = _RedactedStream(sys.stderr)  # type: ignore[assignment]


def redact_error(error: FtlError) -> FtlError:
    """The same error without secrets in its words: it travels through logs that are not ours."""
    return FtlError(redactor()(error.message), error.hint, exit_code=error.exit_code)


class _RedactedStream:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redactor()(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
