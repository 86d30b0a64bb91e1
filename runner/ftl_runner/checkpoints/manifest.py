"""The manifest that commits a checkpoint: written last, once every file it names is in the store."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ftl_runner.checkpoints.store import CheckpointStore

MANIFEST_NAME = "ftl_manifest.json"
FOLDER_PREFIX = "checkpoint-"


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint: its path below the checkpoint's folder, size and SHA-256 (hex)."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What a committed checkpoint consists of, and which run and configuration it belongs to."""

    step: int
    run_id: str
    attempt: int
    config_digest: str
    world_size: int
    created: float
    files: tuple[FileEntry, ...] = field(default=())

    @property
    def folder(self) -> str:
        return f"{FOLDER_PREFIX}{self.step}"

    @property
    def size_bytes(self) -> int:
        return sum(entry.size_bytes for entry in self.files)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Manifest:
        """Raises ValueError, KeyError or TypeError where the text is no manifest."""
        payload: dict[str, Any] = json.loads(text)
        payload["files"] = tuple(FileEntry(**entry) for entry in payload["files"])
        return cls(**payload)


def describe_files(folder: Path) -> tuple[FileEntry, ...]:
    """The files below a folder with their hashes, the manifest itself left out."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    return tuple(FileEntry(p.relative_to(folder).as_posix(), p.stat().st_size, _sha256(p)) for p in paths)


def matches(folder: Path, manifest: Manifest) -> bool:
    """True where every file of the manifest is in the folder with the size and hash that were committed."""
    return files_match(folder, manifest.files)


def files_match(folder: Path, files: Iterable[FileEntry]) -> bool:
    """True where all files are in the folder with their size and hash."""
    return all(
        (folder / entry.path).is_file()
        and (folder / entry.path).stat().st_size == entry.size_bytes
        and _sha256(folder / entry.path) == entry.sha256
        for entry in files
    )


def committed(store: CheckpointStore) -> list[Manifest]:
    """Every committed checkpoint of a store, oldest step first; folders without a readable manifest do not count."""
    found = []
    for key in store.list(""):
        folder, _, name = key.rpartition("/")
        if name != MANIFEST_NAME or "/" in folder or not folder.startswith(FOLDER_PREFIX):
            continue
        content = store.read(key)
        try:
            manifest = Manifest.from_json(content or b"")
        except (ValueError, KeyError, TypeError):
            continue
        found.append(manifest)
    return sorted(found, key=lambda manifest: manifest.step)


def merge_entries(per_rank: list[Mapping[str, FileEntry]]) -> tuple[FileEntry, ...]:
    """One list of files from what each node saved; the same path on a shared file system counts once."""
    merged: dict[str, FileEntry] = {}
    for entries in per_rank:
        merged.update(entries)
    return tuple(merged[path] for path in sorted(merged))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
