"""Prepared sets in a bucket, so that another machine, or this run after it lost its disk, need not tokenize again.

A set's files go below a prefix of the uploader's own; then the manifest ``<fingerprint>/ftl_prepared.json``, which
names the prefix and every file's size and hash, is created unless one is there. So a half-written set is never read,
and of two machines that upload the same set at once one is chosen whole.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from ftl_runner.checkpoints.manifest import FileEntry, describe_files, files_match
from ftl_runner.checkpoints.store import CheckpointStore, open_store
from ftl_runner.data.cache import new_folder

MANIFEST_NAME = "ftl_prepared.json"
_SUFFIXES = (".arrow", ".json", ".jsonl")
"""Of the files of a set; a plot beside them may be written anew at any time."""


class SharedCache:
    """Prepared sets below a URI, by fingerprint."""

    def __init__(self, uri: str) -> None:
        self.uri = uri.rstrip("/")
        self._store: CheckpointStore = open_store(self.uri)

    def fetch(self, fingerprint: str, root: Path) -> bool:
        """Bring a set into the local cache at ``root``; False where there is none.

        A set that differs from its manifest counts as none, and its manifest goes, so that it is uploaded anew.

        Raises:
            StoreError: the store cannot be read.
        """
        found = self._manifest(fingerprint)
        if found is None:
            return False
        prefix, files = found
        try:
            with new_folder(root, fingerprint) as fresh:
                for entry in files:
                    self._store.download(f"{prefix}/{entry.path}", fresh / entry.path)
                if not files_match(fresh, files):
                    raise _Damaged
        except _Damaged:
            self._store.delete(f"{fingerprint}/{MANIFEST_NAME}")
            return False
        return True

    def publish(self, fingerprint: str, folder: Path, say: Callable[[str], None] = lambda text: None) -> bool:
        """Upload a complete set unless one is there; whether this call's upload is the one that counts.

        Raises:
            StoreError: the store cannot be written.
        """
        if self._manifest(fingerprint) is not None:
            return False
        prefix = f"{fingerprint}/{uuid.uuid4().hex}"
        say(f"uploading the prepared data to {self.uri}")
        files = [entry for entry in describe_files(folder) if Path(entry.path).suffix in _SUFFIXES]
        for entry in files:
            self._store.upload(folder / entry.path, f"{prefix}/{entry.path}")
        manifest = {"prefix": prefix, "files": [asdict(entry) for entry in files]}
        if self._store.create(f"{fingerprint}/{MANIFEST_NAME}", json.dumps(manifest, indent=1).encode()):
            return True
        self._store.delete(f"{prefix}/")  # another machine was first
        return False

    def _manifest(self, fingerprint: str) -> tuple[str, Sequence[FileEntry]] | None:
        content = self._store.read(f"{fingerprint}/{MANIFEST_NAME}")
        try:
            values = json.loads(content or b"")
            return values["prefix"], [FileEntry(**entry) for entry in values["files"]]
        except (ValueError, KeyError, TypeError):
            return None


class _Damaged(Exception):
    """Files of a set are missing or differ from its manifest."""
