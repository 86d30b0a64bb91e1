"""Datasets behind a URL: s3, gs, az, https and whatever else fsspec knows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ftl_config.addresses import is_loopback
from ftl_runner.data.errors import DataError
from ftl_runner.data.files import KINDS, LocalFile, file_kind
from ftl_runner.data.origins import Origin, SavedDataset
from ftl_runner.data.row_readers import Reader
from ftl_runner.data.splits import of_split

Result = TypeVar("Result")

_PACKAGES = {
    "s3": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "az": "adlfs",
    "abfs": "adlfs",
    "adl": "adlfs",
    "oci": "ocifs",
}
_EXTRAS = {"gcsfs": "gcs", "adlfs": "azure", "s3fs": "runner"}
_TIMEOUT_S = 60
_HASHES = ("ETag", "etag", "md5", "md5Hash", "content_md5", "Content-MD5", "Digest")
_TIMES = ("LastModified", "Last-Modified", "last_modified", "mtime")
_VALIDATORS = frozenset({*_HASHES, *_TIMES})
"""What servers say of a file that changes when its content does."""


def find_remote(url: str, data_files: Sequence[str], split: str, ds_type: str | None) -> Iterator[Origin]:
    """The files at a URL: one file, a directory of files, or a saved dataset.

    Raises:
        DataError: nothing there, no access, or the filesystem's package is not installed.
    """
    scheme = url.partition("://")[0]
    if scheme == "http" and not is_loopback(url):
        raise DataError(f"{url}: datasets are read over https only", "use the https:// address")
    filesystem, root = _open_filesystem(url)
    if scheme in ("http", "https"):
        for address in [f"{url.rstrip('/')}/{name}" for name in data_files] or [url]:
            yield RemoteFile(filesystem, address, address, file_kind(urlsplit(address).path, ds_type) or "json")
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
    options: dict[str, Any] = {}
    if scheme in ("http", "https"):
        import aiohttp

        # The library's own limit is five minutes for a whole file.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=_TIMEOUT_S)
        options["client_kwargs"] = {"timeout": timeout, "trust_env": True}
    try:
        filesystem, root = fsspec.core.url_to_fs(url, **options)
    except ImportError as error:
        package = _PACKAGES.get(scheme, "a package for it")
        extra = f" (or the extra ftl-tune[{_EXTRAS[package]}])" if package in _EXTRAS else ""
        raise DataError(f"{url} needs {package}, which is not installed", f"pip install {package}{extra}") from error
    except ValueError as error:
        raise DataError(f"{url}: {error}", "known: s3://, gs://, az://, abfs://, https://") from error
    filesystem.invalidate_cache()  # instances live on in fsspec, and with them what a bucket held before
    return filesystem, str(root)


def _list_files(filesystem: Any, root: str, url: str) -> list[str]:
    names = [str(name) for name in _asked(lambda: filesystem.find(root), url)]
    if not names:
        raise DataError(f"nothing at {url}", "check the address; a bucket's keys have no leading slash")
    return sorted(names)


def _asked(call: Callable[[], Result], url: str) -> Result:
    """The answer of a server, asked again with backoff where a fault may pass (timeouts, 429, 5xx).

    Raises:
        DataError: it cannot be read.
    """
    from ftl_runner.checkpoints.retry import with_retries

    def once() -> Result:
        try:
            return call()
        except Exception as error:  # each filesystem has its own exceptions
            if may_pass(error):
                raise _PassingFault(_first_line(error)) from error
            raise

    try:
        return with_retries(once, what=f"reading {url}", retry_on=(_PassingFault,))
    except Exception as error:
        cause = error.__cause__ if isinstance(error, _PassingFault) and error.__cause__ else error
        raise _unreachable(url, cause, tried=isinstance(error, _PassingFault)) from error


class _PassingFault(Exception):
    """A fault that may be gone at the next try; its cause says what it was."""


def may_pass(error: BaseException) -> bool:
    """Whether a fault may be gone at the next try: no connection, a timeout, 429, 5xx."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return status == 429 or status >= 500
    if isinstance(error, FileNotFoundError):  # fsspec calls every fault of a HTTP server so
        return error.__cause__ is not None and may_pass(error.__cause__)
    if isinstance(error, PermissionError):
        return False
    names = {kind.__name__ for kind in type(error).__mro__}
    return isinstance(error, ConnectionError | TimeoutError) or bool(
        names & {"ClientConnectionError", "ClientPayloadError"}
    )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _unreachable(url: str, error: BaseException, *, tried: bool = False) -> DataError:
    real = error.__cause__ if isinstance(error, FileNotFoundError) and error.__cause__ else error
    status = getattr(real, "status", None)
    if status in (401, 403) or isinstance(real, PermissionError):
        hint = "no permission: check the credentials in the environment"
    elif status == 404 or type(real) is FileNotFoundError:
        hint = "there is no such file: check the address"
    elif tried:
        hint = "the server did not answer in five tries: try again later, or copy the file here"
    else:
        hint = "check the address, the network and the credentials"
    return DataError(f"{url} cannot be read: {_first_line(real)}", hint)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """Faults while a file is read as errors that name it."""
    try:
        yield
    except (DataError, GeneratorExit):
        raise
    except Exception as error:  # the filesystem's, the network's, or one of four decompressors'
        hint = "the file is cut off or of another kind, or its server went away"
        raise DataError(f"{name} cannot be read: {_first_line(error)}", hint) from error


@dataclass(frozen=True)
class RemoteFile:
    """One file that is downloaded when its rows are needed, or streamed."""

    filesystem: Any
    path: str
    url: str
    kind: str

    def fingerprint(self) -> str:
        """From what the server says of the file (etag, time, size); only where it says nothing, from the content."""
        info = _asked(lambda: self.filesystem.info(self.path), self.url)
        told = {name: str(info[name]) for name in (*_VALIDATORS, "size") if info.get(name)}
        if not told.keys() & _VALIDATORS:
            told["sha256"] = _asked(self._content_hash, self.url)
        return hashlib.sha256(f"{self.url}{sorted(told.items())}".encode()).hexdigest()

    def _content_hash(self) -> str:
        digest = hashlib.sha256()
        with self.open_bytes() as file:
            while block := file.read(1 << 22):
                digest.update(block)
        return digest.hexdigest()

    def open(self, scratch: Path) -> Reader:
        name = PurePosixPath(urlsplit(self.path).path).name or "data"
        target = scratch / f"{hashlib.sha256(self.url.encode()).hexdigest()[:16]}-{name}"
        _asked(lambda: self.filesystem.get_file(self.path, str(target)), self.url)
        return LocalFile(target, self.url, self.kind).open(scratch)

    def open_bytes(self) -> Any:
        """The file as a file object; read in blocks as they are asked for."""
        return _asked(lambda: self.filesystem.open(self.path, "rb"), self.url)


@dataclass(frozen=True)
class RemoteSavedDataset:
    """A directory that ``save_to_disk`` wrote, in a bucket."""

    filesystem: Any
    folder: str
    url: str

    def arrow_files(self) -> list[RemoteFile]:
        """Its data files, in order."""
        names = [name for name in _list_files(self.filesystem, self.folder, self.url) if name.endswith(".arrow")]
        return [RemoteFile(self.filesystem, name, f"{self.url}: {PurePosixPath(name).name}", "arrow") for name in names]

    def fingerprint(self) -> str:
        return "+".join(file.fingerprint() for file in self.arrow_files())

    def open(self, scratch: Path) -> Reader:
        target = scratch / hashlib.sha256(self.folder.encode()).hexdigest()[:16]
        _asked(lambda: self.filesystem.get(self.folder, str(target), recursive=True), self.url)
        return SavedDataset(target).open(scratch)
