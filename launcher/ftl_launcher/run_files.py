"""Reading what a run left in its checkpoint store: the final model and committed checkpoints.

Nothing is ever written there from here. What a checkpoint consists of is the word of its manifest, which the runner
writes last (``ftl_runner/checkpoints/manifest.py``): a folder without one is no checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from ftl_config.errors import FtlError
from ftl_launcher.s3_client import s3_client

FINAL = "final"
_PATIENT = {
    "retries": {"mode": "adaptive", "total_max_attempts": 6},
    "connect_timeout": 10,
    "read_timeout": 60,
}
_MANIFEST = "ftl_manifest.json"
_CHECKPOINT = "checkpoint-"


@dataclass(frozen=True)
class RemoteFile:
    """One file: its key below the run's folder, its size, and its SHA-256 where a manifest tells it."""

    key: str
    size_bytes: int
    sha256: str | None = None


@dataclass(frozen=True)
class Part:
    """What can be fetched of a run as a whole: ``final``, or one checkpoint."""

    name: str
    files: tuple[RemoteFile, ...]

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)


class RunFiles(Protocol):
    """The folder of a run, wherever it is."""

    uri: str

    def list(self) -> Iterator[RemoteFile]: ...
    def read(self, key: str) -> bytes: ...
    def download(self, key: str, target: Path) -> None: ...


def open_run_files(uri: str) -> RunFiles:
    """The folder at ``s3://...``, a path, or another fsspec URL."""
    scheme = urlsplit(uri).scheme
    if scheme in ("", "file"):
        return _LocalFiles(Path(uri.removeprefix("file://")))
    return _S3Files(uri) if scheme == "s3" else _FsspecFiles(uri)


def find_parts(files: RunFiles) -> list[Part]:
    """The committed checkpoints, oldest first, then ``final`` where the run has ended.

    A run whose checkpoints are in its own output folder has no ``final/``: what lies beside them is the result.
    """
    listed = {file.key: file for file in files.list()}
    parts = sorted(_checkpoints(files, listed), key=lambda part: int(part.name.removeprefix(_CHECKPOINT)))
    final = [file for key, file in listed.items() if key.startswith(f"{FINAL}/")]
    if not final and "metrics.json" in listed:
        final = [file for key, file in listed.items() if "/" not in key]
    if final:
        parts.append(Part(FINAL, tuple(final)))
    return parts


def choose_part(parts: Sequence[Part], wanted: str | None, uri: str) -> Part:
    """``final``, ``latest``, a step, or the last there is.

    Raises:
        FtlError: there is none such; the hint names those there are.
    """
    if not parts:
        raise FtlError(f"nothing to fetch at {uri} yet", hint="no checkpoint has been committed")
    checkpoints = [part for part in parts if part.name != FINAL]
    if wanted is None:
        return parts[-1]
    if wanted == "latest" and checkpoints:
        return checkpoints[-1]
    name = wanted if wanted == FINAL else f"{_CHECKPOINT}{wanted.removeprefix(_CHECKPOINT)}"
    found = next((part for part in parts if part.name == name), None)
    if found is None:
        known = ", ".join(part.name.removeprefix(_CHECKPOINT) for part in parts)
        raise FtlError(f"the run has no {name}", hint=f"it has: {known}", exit_code=2)
    return found


def fetch_file(files: RunFiles, file: RemoteFile, part: Part, folder: Path) -> bool:
    """Copy one file of a part below ``folder``; False where it was there already, whole.

    Raises:
        FtlError: what arrived is not what the manifest says.
    """
    target = folder / file.key.removeprefix(f"{part.name}/")
    if target.is_file() and target.stat().st_size == file.size_bytes and _is_whole(target, file):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(target.name + ".part")
    files.download(file.key, unfinished)
    if not _is_whole(unfinished, file):
        unfinished.unlink()
        raise FtlError(f"{file.key} arrived damaged: its hash is not the manifest's", hint="try again")
    unfinished.replace(target)
    return True


def _is_whole(path: Path, file: RemoteFile) -> bool:
    if file.sha256 is None:
        return path.stat().st_size == file.size_bytes
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256


def _checkpoints(files: RunFiles, listed: dict[str, RemoteFile]) -> Iterator[Part]:
    for key in listed:
        folder, _, name = key.rpartition("/")
        if name != _MANIFEST or "/" in folder or not folder.removeprefix(_CHECKPOINT).isdigit():
            continue
        try:
            entries = json.loads(files.read(key))["files"]
            named = [RemoteFile(f"{folder}/{each['path']}", each["size_bytes"], each["sha256"]) for each in entries]
        except (ValueError, KeyError, TypeError):  # not one of ours, or cut off
            continue
        if all(".." not in Path(file.key).parts for file in named):
            yield Part(folder, (*named, listed[key]))


class _LocalFiles:
    def __init__(self, root: Path) -> None:
        self._root = root.expanduser()
        self.uri = str(self._root)

    def list(self) -> Iterator[RemoteFile]:
        if not self._root.is_dir():
            raise FtlError(f"no folder {self._root}", hint="was the run's output removed, or made on another machine?")
        for path in sorted(self._root.rglob("*")):
            if path.is_file():
                yield RemoteFile(path.relative_to(self._root).as_posix(), path.stat().st_size)

    def read(self, key: str) -> bytes:
        return (self._root / key).read_bytes()

    def download(self, key: str, target: Path) -> None:
        shutil.copyfile(self._root / key, target)


class _S3Files:
    """Through boto3: the same credentials and endpoint that the launch was checked with."""

    def __init__(self, uri: str) -> None:
        try:
            self._client = s3_client({}, **_PATIENT)
        except ImportError as error:
            raise FtlError(f"{uri}: boto3 is not installed here", hint="pip install boto3") from error
        self.uri = uri.rstrip("/")
        self._bucket, _, prefix = self.uri.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""

    def list(self) -> Iterator[RemoteFile]:
        with _faults_named(self.uri):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=self._prefix)
            for page in pages:
                for item in page.get("Contents", ()):
                    yield RemoteFile(item["Key"].removeprefix(self._prefix), item["Size"])

    def read(self, key: str) -> bytes:
        with _faults_named(self.uri):
            body: bytes = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)["Body"].read()
            return body

    def download(self, key: str, target: Path) -> None:
        with _faults_named(self.uri):
            self._client.download_file(self._bucket, self._prefix + key, str(target))


class _FsspecFiles:
    def __init__(self, uri: str) -> None:
        try:
            import fsspec

            self._filesystem, self._root = fsspec.core.url_to_fs(uri)
        except (ImportError, ValueError) as error:
            extras = {"gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure"}
            extra = extras.get(urlsplit(uri).scheme, "runner")
            raise FtlError(f"{uri} cannot be read here: {error}", hint=f"pip install 'ftl-tune[{extra}]'") from error
        self.uri = uri.rstrip("/")

    def list(self) -> Iterator[RemoteFile]:
        with _faults_named(self.uri):
            for path, details in sorted(self._filesystem.find(self._root, detail=True).items()):
                yield RemoteFile(path.removeprefix(self._root).lstrip("/"), details["size"])

    def read(self, key: str) -> bytes:
        with _faults_named(self.uri):
            content: bytes = self._filesystem.cat_file(f"{self._root}/{key}")
            return content

    def download(self, key: str, target: Path) -> None:
        with _faults_named(self.uri):
            self._filesystem.get_file(f"{self._root}/{key}", str(target))


@contextmanager
def _faults_named(uri: str) -> Iterator[None]:
    """A client library's exceptions as one error that names the place; what was fetched stays."""
    try:
        yield
    except (FtlError, GeneratorExit):
        raise
    except Exception as error:  # boto3's, fsspec's and those of its filesystems have no class in common
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "check the credentials and AWS_ENDPOINT_URL; the same command goes on with what is missing"
        raise FtlError(f"{uri} cannot be read: {first}", hint=hint) from error
