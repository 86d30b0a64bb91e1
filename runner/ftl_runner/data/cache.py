"""The prepared cache: one directory a fingerprint, complete or absent.

A set is written into a temporary directory beside its place and renamed when it is whole, so that a crash leaves
nothing that is read; a lock lets one process prepare while the others wait for its result.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ftl_runner.data.errors import DataError

CACHE_VERSION = 2
"""Part of every fingerprint: raise it when the same config and data are prepared differently by new code."""

DEFAULT_ROOT = "last_run_prepared"
REPORT_NAME = "report.json"
_TEMPORARY = ".tmp-"


def fingerprint_of(parts: Any) -> str:
    """32 hex digits of a JSON value."""
    text = json.dumps([CACHE_VERSION, parts], sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def is_complete(folder: Path) -> bool:
    """Whether a prepared set lies in ``folder``: its report is written last, before the rename."""
    return (folder / REPORT_NAME).is_file()


@contextmanager
def locked(root: Path, fingerprint: str) -> Iterator[None]:
    """Hold the preparation of one fingerprint; a process that dies gives it up."""
    from filelock import FileLock

    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(str(root / f".{fingerprint}.lock"))
        with lock:
            yield
    except PermissionError as error:
        raise DataError(f"{root} cannot be written to", "set dataset_prepared_path to a directory that can") from error


@contextmanager
def new_folder(root: Path, fingerprint: str) -> Iterator[Path]:
    """A directory to write a set into; it takes its place when the block ends well, and vanishes otherwise."""
    _sweep(root, fingerprint)
    folder = Path(tempfile.mkdtemp(prefix=f"{_TEMPORARY}{fingerprint}-", dir=root))
    try:
        yield folder
        if not is_complete(folder):
            raise AssertionError("a prepared set without its report")
        folder.chmod(0o755)
        target = root / fingerprint
        if target.exists():  # incomplete: by hand, or by an older version
            shutil.rmtree(target)
        os.replace(folder, target)
    except OSError as error:
        raise DataError(f"preparing the data in {root} failed: {error}", "is the disk full?") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(root: Path, fingerprint: str) -> None:
    """Remove what a killed process left behind; the lock is held, so nobody is writing there."""
    for leftover in root.glob(f"{_TEMPORARY}{fingerprint}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
