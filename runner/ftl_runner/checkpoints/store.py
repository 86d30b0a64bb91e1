"""Checkpoint stores: one small interface over a local directory, S3, and any other fsspec URL.

Keys are ``/``-separated paths below the store's root. Every operation that meets a passing fault (network,
throttling) is retried with backoff; what remains is raised as :class:`StoreError` with the URI and the remedy.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

from ftl_runner.checkpoints.errors import StoreError

if TYPE_CHECKING:
    from datetime import datetime

    import fsspec


class CheckpointStore(Protocol):
    """Where the checkpoints of one run live."""

    uri: str

    def local_path(self, key: str) -> Path | None:
        """The file itself where the store is a local directory (nothing needs copying then), else None."""

    def upload(self, source: Path, key: str) -> None: ...
    def download(self, key: str, target: Path) -> None: ...
    def read(self, key: str) -> bytes | None:
        """The content of a small object, or None where there is none."""

    def write(self, key: str, content: bytes) -> None: ...
    def written_at(self, key: str) -> float | None:
        """When the store says that an object was written, in seconds since the epoch; None where it does not."""

    def create(self, key: str, content: bytes) -> bool:
        """Write only where nothing is there yet; False where another writer was first."""

    def list(self, prefix: str) -> Iterator[str]:
        """Keys below a prefix, sorted."""

    def delete(self, prefix: str) -> None:
        """Remove every key below a prefix."""


def open_store(uri: str, *, quick: bool = False) -> CheckpointStore:
    """The store behind ``s3://bucket/prefix``, a directory (with or without ``file://``), or an fsspec URL.

    ``quick`` gives up on a silent S3 server within seconds, for whoever only asks whether it is there.
    """
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file"):
        return LocalStore(uri.removeprefix("file://"))
    if scheme == "s3":
        from ftl_runner.checkpoints.s3 import S3Store

        return S3Store(uri, quick=quick)
    return FsspecStore(uri)


class LocalStore:
    """A directory; on a shared file system it serves several nodes."""

    def __init__(self, root: str) -> None:
        self._root = Path(root).expanduser().absolute()
        self.uri = str(self._root)

    def local_path(self, key: str) -> Path | None:
        return self._root / key

    def upload(self, source: Path, key: str) -> None:
        target = self._root / key
        if source.absolute() == target:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        shutil.copyfile(source, part)
        part.replace(target)

    def download(self, key: str, target: Path) -> None:
        if target.absolute() == self._root / key:
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._root / key, target)

    def read(self, key: str) -> bytes | None:
        try:
            return (self._root / key).read_bytes()
        except FileNotFoundError:
            return None

    def write(self, key: str, content: bytes) -> None:
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)

    def written_at(self, key: str) -> float | None:
        return (self._root / key).stat().st_mtime

    def create(self, key: str, content: bytes) -> bool:
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return True

    def list(self, prefix: str) -> Iterator[str]:
        start = self._root / prefix
        if not start.is_dir():
            return
        for path in sorted(start.rglob("*")):
            if path.is_file() and not path.name.endswith(".part"):
                yield path.relative_to(self._root).as_posix()

    def delete(self, prefix: str) -> None:
        target = self._root / prefix
        if target.is_dir():
            shutil.rmtree(target, ignore_errors=True)
        else:
            target.unlink(missing_ok=True)


class FsspecStore:
    """Any other fsspec URL (gs://, az://, hdfs://, ...); conditional creation is best effort there."""

    def __init__(self, uri: str) -> None:
        import fsspec

        self.uri = uri.rstrip("/")
        try:
            filesystem, root = fsspec.core.url_to_fs(self.uri)
        except (ImportError, ValueError) as error:
            raise StoreError(
                f"cannot open the checkpoint store {uri}: {error}",
                "install the fsspec package of that scheme (gcsfs for gs://, adlfs for az://) or use s3://",
            ) from error
        self._filesystem: fsspec.AbstractFileSystem = filesystem
        self._root: str = root

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}"

    def local_path(self, key: str) -> Path | None:
        return None

    def upload(self, source: Path, key: str) -> None:
        self._call("put_file", str(source), self._path(key))

    def download(self, key: str, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self._call("get_file", self._path(key), str(target))

    def read(self, key: str) -> bytes | None:
        try:
            content: bytes = self._filesystem.cat_file(self._path(key))
        except FileNotFoundError:
            return None
        return content

    def write(self, key: str, content: bytes) -> None:
        self._call("pipe_file", self._path(key), content)

    def written_at(self, key: str) -> float | None:
        try:
            modified: datetime = self._filesystem.modified(self._path(key))
        except NotImplementedError:
            return None
        return modified.timestamp()

    def create(self, key: str, content: bytes) -> bool:
        if self._filesystem.exists(self._path(key)):
            return False
        self.write(key, content)
        return True

    def list(self, prefix: str) -> Iterator[str]:
        try:
            found = self._filesystem.find(self._path(prefix))
        except FileNotFoundError:
            return
        for path in sorted(found):
            yield path.removeprefix(self._root).lstrip("/")

    def delete(self, prefix: str) -> None:
        if self._filesystem.exists(self._path(prefix)):
            self._call("rm", self._path(prefix), recursive=True)

    def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        from ftl_runner.checkpoints.retry import with_retries

        return with_retries(lambda: getattr(self._filesystem, method)(*args, **kwargs), what=f"{method} {self.uri}")
