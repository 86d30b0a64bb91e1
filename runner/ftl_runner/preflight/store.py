"""The checkpoint store, by writing, reading and deleting one tiny object; its clock, by when it says that was."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ftl_config.errors import FtlError
from ftl_runner.checkpoints.store import CheckpointStore, open_store
from ftl_runner.preflight.clock import against

if TYPE_CHECKING:
    from ftl_config.preflight import Finding
    from ftl_runner.preflight.node import Node

CHECK = "store"
CLOCK_CHECK = "store's clock"
_FOLDER = "preflight"


def check_store(node: Node) -> Iterator[Finding]:
    """Checkpoints can be written, read and deleted from here, and the store's clock is near this node's."""
    key = f"{_FOLDER}/{node.name}-{uuid.uuid4().hex[:8]}".replace(" ", "-")
    try:
        store = open_store(node.expectations.store_uri, quick=True)
        skew_s = _write_and_read(store, key)
    except Exception as error:  # every store has exceptions of its own
        yield _refused(node, error)
        return
    yield _shared(node, store)
    yield from _deleted(node, store, key)
    if skew_s is not None:
        yield against(node, CLOCK_CHECK, skew_s, "the checkpoint store")


def write_head_probe(store_uri: str) -> str | None:
    """Put down what the other nodes are to see; None where that fails, which the head's own check will tell."""
    key = f"{_FOLDER}/head-{uuid.uuid4().hex[:8]}"
    with suppress(Exception):
        open_store(store_uri, quick=True).write(key, b"ftl")
        return key
    return None


def remove_head_probe(store_uri: str, key: str) -> None:
    """Take away what `write_head_probe` put down."""
    with suppress(Exception):
        _delete(open_store(store_uri, quick=True), key)


def _write_and_read(store: CheckpointStore, key: str) -> float | None:
    """Seconds by which this node's clock is ahead of the store's; None where the store does not tell."""
    content = uuid.uuid4().hex.encode()
    started = time.time()
    store.write(key, content)
    ended = time.time()
    if store.read(key) != content:
        raise FtlError("what was written did not come back", "is something else writing there?")
    written = store.written_at(key)
    if written is None:
        return None
    # Stores tell whole seconds: within the request, or within the second that it ended in, nothing is off.
    return max(started - (written + 1), min(0.0, ended - written))


def _refused(node: Node, error: Exception) -> Finding:
    known = error if isinstance(error, FtlError) else FtlError(f"{type(error).__name__}: {error}")
    fix = known.hint or "check the address, the credentials and the network of the node"
    where = node.expectations.store_uri
    return node.failed(CHECK, known.message, wanted=f"to write to {where}", fix=fix, exit_code=known.exit_code)


def _shared(node: Node, store: CheckpointStore) -> Finding:
    """Whether this is the store that the head sees: a folder may be another one on every node."""
    probe = node.expectations.head_probe
    if probe is None or store.read(probe) is not None:
        return node.passed(CHECK, "written and read")
    fix = "set checkpoint: s3://..., or a folder that all nodes share: a resumed run would not find its files"
    return node.warning(CHECK, f"{node.expectations.store_uri} is not the head's", wanted="one store", fix=fix)


def _deleted(node: Node, store: CheckpointStore, key: str) -> Iterator[Finding]:
    try:
        _delete(store, key)
    except Exception as error:
        fix = "allow s3:DeleteObject, or expect every checkpoint to stay"
        yield node.warning(CHECK, f"nothing can be deleted: {error}", wanted="to remove old checkpoints", fix=fix)


def _delete(store: CheckpointStore, key: str) -> None:
    store.delete(key)
    if (folder := store.local_path(_FOLDER)) is not None:
        with suppress(OSError):  # another node's object is still there
            folder.rmdir()
