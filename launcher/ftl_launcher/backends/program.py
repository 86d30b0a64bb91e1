"""Client programs that backends speak through (docker, podman, kubectl): called once, without a terminal."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

from ftl_config.errors import FtlError

TIMEOUT_S = 60


def call(
    argv: Sequence[str],
    *,
    install: str,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout_s: int | None = TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever it ends with.

    Args:
        argv: the program and its arguments; never a secret, which any process list would show.
        install: hint where the program is not there.
        env: its environment; this process's own where left out.
        stdin: what it reads.
        timeout_s: seconds until it counts as stuck; None waits for ever.

    Raises:
        FtlError: it is not installed, or did not answer in time.
    """
    try:
        return subprocess.run(
            list(argv), env=env, input=stdin, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except FileNotFoundError as error:
        raise FtlError(f"{argv[0]} is not installed here", hint=install) from error
    except subprocess.TimeoutExpired as error:
        raise FtlError(f"{argv[0]} {argv[1]} did not answer within {timeout_s} s") from error


def last_line(text: str) -> str:
    """What a program said last: as a rule, why it failed."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "no message"
