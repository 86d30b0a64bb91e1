"""Find the newest committed checkpoint and bring it onto this node."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from ftl_runner.checkpoints.errors import ResumeError
from ftl_runner.checkpoints.manifest import (
    FOLDER_PREFIX,
    MANIFEST_NAME,
    Manifest,
    committed,
    describe_files,
    matches,
)
from ftl_runner.checkpoints.store import CheckpointStore, open_store
from ftl_runner.distributed.sharding import Sharding


@dataclass(frozen=True)
class ResumePoint:
    """A checkpoint to go on from; ``store_uri`` is where it lies, which need not be where this run commits."""

    store_uri: str
    manifest: Manifest

    @property
    def step(self) -> int:
        return self.manifest.step

    @property
    def uri(self) -> str:
        return f"{self.store_uri}/{self.manifest.folder}"


def newest_checkpoint(store: CheckpointStore) -> ResumePoint | None:
    """The committed checkpoint with the highest step, or None."""
    manifests = committed(store)
    return ResumePoint(store.uri, manifests[-1]) if manifests else None


def named_checkpoint(location: str) -> ResumePoint:
    """The checkpoint that ``resume_from_checkpoint: <path or URI>/checkpoint-<step>`` names.

    A local folder without a manifest (saved by another trainer) is taken as it is.

    Raises:
        ResumeError: there is no checkpoint at that place.
    """
    parent, _, name = location.rstrip("/").rpartition("/")
    step = name.removeprefix(FOLDER_PREFIX)
    if not name.startswith(FOLDER_PREFIX) or not step.isdigit():
        raise ResumeError(f"resume_from_checkpoint: {location} names no checkpoint-<step> folder", exit_code=2)
    store = open_store(parent or ".")
    for manifest in committed(store):
        if manifest.step == int(step):
            return ResumePoint(store.uri, manifest)
    folder = store.local_path(name)
    if folder is None or not (folder / "trainer_state.json").is_file():
        raise ResumeError(f"resume_from_checkpoint: there is no checkpoint at {location}", exit_code=2)
    world_size = len(list(folder.glob("rng_state*.pth"))) or 1
    return ResumePoint(store.uri, Manifest(int(step), "", 0, "", world_size, time.time(), describe_files(folder)))


def fetch_checkpoint(point: ResumePoint, local_root: Path) -> Path:
    """The checkpoint's folder on this disk, downloaded unless an intact copy is there, and verified by hash.

    Raises:
        ResumeError: a file is missing or differs from what was committed.
    """
    store, manifest = open_store(point.store_uri), point.manifest
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


def check_resumable(point: ResumePoint, config_digest: str, world_size: int, *, sharding: Sharding | None) -> list[str]:
    """Warnings about a checkpoint that this run will resume from.

    Raises:
        ResumeError: the optimizer is sharded (ZeRO, FSDP), and by another library or over another number of ranks.
    """
    manifest = point.manifest
    saved = _saved_sharding(manifest)
    if saved != sharding:
        raise ResumeError(
            f"{manifest.folder} was saved {_with(saved)}; this run is {_with(sharding)}",
            f"resume {_with(saved)}, or start anew from its model: base_model (or lora_model_dir): {point.uri}",
            exit_code=2,
        )
    if sharding and manifest.world_size != world_size:
        raise ResumeError(
            f"{manifest.folder} was saved by {manifest.world_size} workers with a sharded optimizer; "
            f"this run has {world_size}",
            f"run with {manifest.world_size} workers (ray_num_workers, --nproc_per_node, --num_gpus)",
            exit_code=2,
        )
    if manifest.config_digest and manifest.config_digest != config_digest:
        return [
            f"the configuration changed since {manifest.folder} was saved: the resumed run is not an exact continuation"
        ]
    return []


def _saved_sharding(manifest: Manifest) -> Sharding | None:
    """By the files that only one library writes."""
    for entry in manifest.files:
        if entry.path.startswith("global_step"):
            return "deepspeed"
        if entry.path.startswith("pytorch_model_fsdp"):
            return "fsdp"
    return None


def _with(sharding: Sharding | None) -> str:
    return f"with {sharding}" if sharding else "without deepspeed and fsdp"
