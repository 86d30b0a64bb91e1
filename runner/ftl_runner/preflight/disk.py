"""Room on the disks that a run writes to."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ftl_config.preflight import Finding
    from ftl_runner.preflight.node import Node

CHECK = "disk"
SHARED_MEMORY_CHECK = "shared memory"

MIN_FREE_BYTES = 200 * 10**6
"""Below this not even an adapter and a log fit."""
COMFORTABLE_BYTES = 10**9
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - looked at, not written to
MIN_SHARED_BYTES = 10**9
"""NCCL keeps about 10 MB a pair of GPUs there, and the processes that read data their batches."""


def check_disk(node: Node, min_free_bytes: int = MIN_FREE_BYTES) -> Iterator[Finding]:
    """The output folder, and the cache of models and data where that is on another disk."""
    wanted_bytes = max(min_free_bytes, COMFORTABLE_BYTES, node.expectations.checkpoint_bytes)
    output, cache = _existing(Path(node.expectations.output_dir)), _existing(_cache())
    if not os.access(output, os.W_OK | os.X_OK):
        yield node.failed(CHECK, f"{output} cannot be written to", wanted="a folder for output_dir", fix="chmod it")
        return
    places = [output] if output.stat().st_dev == cache.stat().st_dev else [output, cache]
    tight = [place for place in places if shutil.disk_usage(place).free < wanted_bytes]
    for place in tight:
        free = shutil.disk_usage(place).free
        tell = node.failed if free < min_free_bytes else node.warning
        fix = "free some space, ask for more (launch.disk_gb), or lower save_total_limit"
        yield tell(CHECK, f"{size(free)} free at {place}", wanted=size(wanted_bytes), fix=fix)
    if not tight:
        yield node.passed(CHECK, f"{size(shutil.disk_usage(output).free)} free")


def check_shared_memory(
    node: Node, folder: Path = SHARED_MEMORY, min_bytes: int = MIN_SHARED_BYTES
) -> Iterator[Finding]:
    """Room in /dev/shm, of which a container has 64 MB unless it is given more."""
    if not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free
    among_gpus = node.expectations.workers_per_node > 1 and node.expectations.wants_gpus
    if free >= min_bytes or not (among_gpus or node.expectations.loader_processes):
        yield node.passed(SHARED_MEMORY_CHECK, f"{size(free)} free")
        return
    tell = node.failed if among_gpus else node.warning
    fix = "docker run --ipc=host or --shm-size=16g; in Kubernetes an emptyDir of medium Memory at /dev/shm"
    yield tell(SHARED_MEMORY_CHECK, f"{size(free)} free at {folder}", wanted=size(min_bytes), fix=fix)


def size(num_bytes: float) -> str:
    """``64 MB``, ``1.5 GB``."""
    return f"{num_bytes / 1e9:.3g} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.0f} MB"


def _cache() -> Path:
    return Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()


def _existing(path: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    path = path.absolute()
    while not path.exists():
        path = path.parent
    return path
