"""Where a config's text comes from: a file, standard input or an https address."""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

from ftl_config.errors import ConfigError, Problem
from ftl_config.parse import MAX_BYTES

FETCH_TIMEOUT_S = 30.0
STDIN_NAME = "<stdin>"


def read_source(source: str | Path) -> tuple[str, str]:
    """(text, name for messages) of a config.

    Args:
        source: a path, ``-`` for standard input, or an ``https://`` address.

    Raises:
        ConfigError: it is not there, not a file, not text, or too large.
    """
    if isinstance(source, str):
        if source == "-":
            return _decode(sys.stdin.buffer.read(MAX_BYTES + 1), STDIN_NAME), STDIN_NAME
        if source.startswith("https://"):
            return _decode(_fetch(source), source), source
        if "://" in source:
            raise _error(source, "only https:// addresses can be read", "download the file first")
    path = Path(source)
    return _decode(_read_file(path), str(source)), str(source)


def _read_file(path: Path) -> bytes:
    if path.is_dir():
        found = sorted(file.name for file in path.glob("*.y*ml"))
        raise _error(path, "is a directory", f"it holds {', '.join(found[:5])}" if found else None)
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _error(path, "no such file", _similar_file(path)) from None
    except OSError as error:
        raise _error(path, f"cannot be read: {error.strerror}") from None


def _similar_file(path: Path) -> str | None:
    folder = path.parent
    if not folder.is_dir():
        return f"the directory {folder} does not exist"
    names = [file.name for file in folder.glob("*.y*ml")]
    close = difflib.get_close_matches(path.name, names, n=1) or [n for n in names if Path(n).stem == path.stem][:1]
    if close:
        return f"did you mean {folder / close[0]}?"
    return None


def _fetch(url: str) -> bytes:
    from urllib.error import URLError
    from urllib.request import urlopen

    try:
        with urlopen(url, timeout=FETCH_TIMEOUT_S) as response:  # noqa: S310 - the scheme was checked
            if not response.url.startswith("https://"):
                raise _error(url, "was redirected to an address that is not https://")
            data: bytes = response.read(MAX_BYTES + 1)
    except (URLError, TimeoutError, OSError) as error:
        raise _error(url, f"cannot be fetched: {getattr(error, 'reason', error)}") from None
    if data.lstrip()[:1] == b"<":
        raise _error(url, "answered with a web page, not YAML", "use the address of the raw file")
    return data


def _decode(data: bytes, name: str) -> str:
    if len(data) > MAX_BYTES:
        raise _error(name, f"the file is larger than {MAX_BYTES >> 10} KiB")
    if b"\0" in data[:4096] and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise _error(name, "is a binary file, not YAML")
    try:
        if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            return data.decode("utf-16")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _error(name, "is not UTF-8 text", "save the file as UTF-8", line) from None


def _error(source: str | Path, message: str, hint: str | None = None, line: int | None = None) -> ConfigError:
    return ConfigError([Problem("error", "", message, hint, str(source), line)])
