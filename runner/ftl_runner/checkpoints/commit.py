"""Commit a checkpoint across ranks: every node uploads what it wrote, then rank 0 writes the manifest."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ftl_runner.checkpoints.manifest import (
    FOLDER_PREFIX,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    committed,
    describe_files,
    merge_entries,
)
from ftl_runner.checkpoints.store import CheckpointStore
from ftl_runner.distributed.ranks import Ranks


@dataclass(frozen=True)
class Committed:
    """What one commit cost. ``duration_s`` covers hashing, upload and the manifest."""

    manifest: Manifest
    duration_s: float


@dataclass(frozen=True)
class RunIdentity:
    """Which run, attempt and configuration a checkpoint belongs to."""

    run_id: str
    attempt: int
    config_digest: str


def commit_checkpoint(
    store: CheckpointStore, folder: Path, step: int, identity: RunIdentity, ranks: Ranks
) -> Committed:
    """Make a local checkpoint folder durable. Collective: every rank calls it, after its own files are written.

    A crash at any point leaves either the complete checkpoint or none: the manifest names every file and comes last.
    """
    started = time.monotonic()
    ranks.barrier()
    entries: dict[str, FileEntry] = {}
    if ranks.is_node_leader:
        entries = {entry.path: entry for entry in describe_files(folder)}
        for path in entries:
            store.upload(folder / path, f"{folder.name}/{path}")
    merged = merge_entries(ranks.gather(entries))
    manifest = Manifest(
        step, identity.run_id, identity.attempt, identity.config_digest, ranks.world_size, time.time(), merged
    )
    if ranks.is_main:
        store.write(f"{folder.name}/{MANIFEST_NAME}", manifest.to_json().encode())
    ranks.barrier()
    return Committed(manifest, time.monotonic() - started)


def rotate(store: CheckpointStore, keep: int | None, protect: frozenset[str] = frozenset()) -> None:
    """Remove the oldest committed checkpoints of a store beyond ``keep``; ``protect`` names folders to leave.

    Runs after a commit, so there is always a complete newer one; the manifest goes first, so that a crash
    in between leaves an uncommitted folder rather than a committed one with files missing.
    """
    if not keep:
        return
    manifests = [manifest for manifest in committed(store) if manifest.folder not in protect]
    for manifest in manifests[:-keep]:
        store.delete(f"{manifest.folder}/{MANIFEST_NAME}")
        store.delete(f"{manifest.folder}/")


def prune_local(local_root: Path, keep: frozenset[str]) -> None:
    """Remove this node's copies of checkpoints that are not named in ``keep``."""
    for path in local_root.glob(f"{FOLDER_PREFIX}*"):
        if path.is_dir() and path.name not in keep:
            shutil.rmtree(path, ignore_errors=True)
