"""Find the newest committed checkpoint and bring it onto this node."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from ftl_config.errors import FtlError
from ftl_runner.checkpoints.manifest import MANIFEST_NAME, Manifest, committed, matches
from ftl_runner.checkpoints.store import CheckpointStore


class ResumeError(FtlError):
    """A run cannot go on from the checkpoint it was asked to."""


def newest_checkpoint(store: CheckpointStore) -> Manifest | None:
    """The committed checkpoint with the highest step, or None."""
    manifests = committed(store)
    return manifests[-1] if manifests else None


def fetch_checkpoint(store: CheckpointStore, manifest: Manifest, local_root: Path) -> Path:
    """The checkpoint's folder on this disk, downloaded unless an intact copy is there, and verified by hash.

    Raises:
        ResumeError: a file is missing or differs from what was committed.
    """
    folder = local_root / manifest.folder
    if matches(folder, manifest):
        return folder
    if store.local_path(manifest.folder) != folder.absolute():
        shutil.rmtree(folder, ignore_errors=True)
        for entry in manifest.files:
            store.download(f"{manifest.folder}/{entry.path}", folder / entry.path)
    if not matches(folder, manifest):
        raise ResumeError(
            f"checkpoint {manifest.folder} in {store.uri} is damaged: files are missing or differ from its manifest",
            f"delete {manifest.folder}/{MANIFEST_NAME} there to fall back to the checkpoint before it",
        )
    return folder


def check_resumable(manifest: Manifest, config_digest: str, world_size: int, *, sharded: bool) -> list[str]:
    """Warnings about a checkpoint that this run will resume from.

    Raises:
        ResumeError: the optimizer is sharded by rank (ZeRO, FSDP) and the number of ranks changed.
    """
    if sharded and manifest.world_size != world_size:
        raise ResumeError(
            f"{manifest.folder} was saved by {manifest.world_size} workers with a sharded optimizer; "
            f"this run has {world_size}",
            f"run with {manifest.world_size} workers",
        )
    if manifest.config_digest != config_digest:
        return [
            f"the configuration changed since {manifest.folder} was saved: the resumed run is not an exact continuation"
        ]
    return []


def begin_attempt(store: CheckpointStore, run_id: str, world_size: int) -> int:
    """Count this life of the run in the checkpoint store and return its number, starting at 1.

    No backend tells a job how often it was recovered, so the store keeps the count; conditional creation makes
    two starters agree on different numbers.
    """
    taken = [int(Path(key).stem) for key in store.list("attempts/") if Path(key).stem.isdigit()]
    attempt = max(taken, default=0) + 1
    note = json.dumps({"run_id": run_id, "started": time.time(), "world_size": world_size}).encode()
    while not store.create(f"attempts/{attempt}.json", note):
        attempt += 1
    return attempt
