"""Names of runs: what every backend accepts (a DNS label), so that one name serves everywhere."""

from __future__ import annotations

import re
import secrets
from pathlib import PurePath
from urllib.parse import urlsplit

from ftl_config.errors import FtlError

MAX_LENGTH = 48
"""Kubernetes allows 63 in a label; backends put a prefix and a launch number around the name."""

_VALID = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def check_run_name(name: str) -> str:
    """The name itself, if it is one.

    Raises:
        FtlError: the name is not lower-case letters, digits and dashes, or longer than MAX_LENGTH.
    """
    if len(name) <= MAX_LENGTH and _VALID.fullmatch(name):
        return name
    raise FtlError(
        f"{name!r} cannot name a run: lower-case letters, digits and dashes, at most {MAX_LENGTH} characters",
        hint=f"for example --name {_slug(name)}",
        exit_code=2,
    )


def default_run_name(source: str) -> str:
    """``<stem of the config file>-<4 random base32 characters>``."""
    suffix = "".join(secrets.choice(_BASE32) for _ in range(4))
    return f"{_slug(_stem(source))}-{suffix}"


def _stem(source: str) -> str:
    if source in ("-", "<stdin>"):
        return "stdin"
    path = urlsplit(source).path if "://" in source else source
    return PurePath(path).stem


def _slug(text: str) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return slug[: MAX_LENGTH - 5].rstrip("-") or "run"
