"""Datasets behind a URL: s3, gs, az, https and whatever else fsspec knows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ftl_runner.data.errors import DataError
from ftl_runner.data.files import KINDS, LocalFile, file_kind
from ftl_runner.data.row_readers import Reader
from ftl_runner.data.sources import Origin, SavedDataset, of_split

_EXTRAS = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "adl": "adlfs", "oci": "ocifs"}


def find_remote(url: str, data_files: Sequence[str], split: str, ds_type: str | None) -> Iterator[Origin]:
    """The files at a URL: one file, a directory of files, or a saved dataset.

    Raises:
        DataError: nothing there, no access, or the filesystem's package is not installed.
    """
    scheme = url.partition("://")[0]
    if scheme == "http":
        raise DataError(f"{url}: datasets are read over https only", "use the https:// address")
    filesystem, root = _open_filesystem(url)
    if scheme == "https":
        yield RemoteFile(filesystem, root, url, file_kind(url.partition("?")[0], ds_type) or "json")
        return
    names = [f"{root.rstrip('/')}/{name}" for name in data_files] or _list_files(filesystem, root, url)
    saved = [name for name in names if PurePosixPath(name).name == "state.json"]
    if saved:
        chosen = [n for n in saved if PurePosixPath(n).parent.name == split] or saved[:1]
        yield RemoteSavedDataset(filesystem, str(PurePosixPath(chosen[0]).parent), url)
        return
    single = names == [root]
    known = names if single or data_files else [name for name in names if file_kind(name)]
    if not known:
        raise DataError(f"no data files at {url}", f"known endings: {', '.join(KINDS)}")
    chosen_files = [Path(name) for name in known] if single or data_files else of_split([*map(Path, known)], split, url)
    for path in chosen_files:
        yield RemoteFile(filesystem, str(path), f"{scheme}://{path}", file_kind(path.name, ds_type) or "json")


def _open_filesystem(url: str) -> tuple[Any, str]:
    import fsspec

    scheme = url.partition("://")[0]
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = _EXTRAS.get(scheme, "a package for it")
        raise DataError(f"{url} needs {package}, which is not installed", f"pip install {package}") from error
    except ValueError as error:
        raise DataError(f"{url}: {error}", "known: s3://, gs://, az://, abfs://, https://") from error
    filesystem.invalidate_cache()  # instances live on in fsspec, and with them what a bucket held before
    return filesystem, str(root)


def _list_files(filesystem: Any, root: str, url: str) -> list[str]:
    try:
        names = [str(name) for name in filesystem.find(root)]
    except Exception as error:  # each filesystem has its own exceptions
        raise _unreachable(url, error) from error
    if not names:
        raise DataError(f"nothing at {url}", "check the address; a bucket's keys have no leading slash")
    return sorted(names)


def _unreachable(url: str, error: Exception) -> DataError:
    text = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    return DataError(f"{url} cannot be read: {text}", "check the address, the network and the credentials")


@dataclass(frozen=True)
class RemoteFile:
    """One file that is downloaded when its rows are needed."""

    filesystem: Any
    path: str
    url: str
    kind: str

    def fingerprint(self) -> str:
        """From what the server says of the file (etag, size, time): the content is not fetched for it."""
        try:
            info = self.filesystem.info(self.path)
        except Exception as error:
            raise _unreachable(self.url, error) from error
        names = ("ETag", "etag", "size", "LastModified", "mtime", "md5")
        told = {name: str(info[name]) for name in names if info.get(name)}
        return hashlib.sha256(f"{self.url}{sorted(told.items())}".encode()).hexdigest()

    def open(self, scratch: Path) -> Reader:
        name = PurePosixPath(self.path.partition("?")[0]).name or "data"
        target = scratch / f"{hashlib.sha256(self.url.encode()).hexdigest()[:16]}-{name}"
        try:
            self.filesystem.get_file(self.path, str(target))
        except Exception as error:
            raise _unreachable(self.url, error) from error
        return LocalFile(target, self.url, self.kind).open(scratch)


@dataclass(frozen=True)
class RemoteSavedDataset:
    """A directory that ``save_to_disk`` wrote, in a bucket."""

    filesystem: Any
    folder: str
    url: str

    def fingerprint(self) -> str:
        names = _list_files(self.filesystem, self.folder, self.url)
        return "+".join(RemoteFile(self.filesystem, name, name, "arrow").fingerprint() for name in names)

    def open(self, scratch: Path) -> Reader:
        target = scratch / hashlib.sha256(self.folder.encode()).hexdigest()[:16]
        try:
            self.filesystem.get(self.folder, str(target), recursive=True)
        except Exception as error:
            raise _unreachable(self.url, error) from error
        return SavedDataset(target).open(scratch)
