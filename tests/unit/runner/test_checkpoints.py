"""Checkpoint stores, manifests, commit and resume: against a directory and a real S3-protocol server."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ftl_runner.checkpoints.attempts import begin_attempt, note_failure, note_seen, seconds_before
from ftl_runner.checkpoints.commit import RunIdentity, commit_checkpoint, prune_local, rotate
from ftl_runner.checkpoints.errors import ResumeError, StoreError
from ftl_runner.checkpoints.manifest import MANIFEST_NAME, committed, matches
from ftl_runner.checkpoints.resume import (
    check_resumable,
    fetch_checkpoint,
    named_checkpoint,
    newest_checkpoint,
)
from ftl_runner.checkpoints.retry import with_retries
from ftl_runner.checkpoints.store import CheckpointStore, FsspecStore, open_store
from ftl_runner.distributed.ranks import Ranks
from tests.services.s3 import S3Server

ALONE = Ranks(0, 0, 1)
IDENTITY = RunIdentity("run-a", 1, "digest-a")

OpenStore = Callable[[], CheckpointStore]


@pytest.fixture(params=["local", "s3", "fsspec"])
def open_test_store(request: pytest.FixtureRequest, tmp_path: Path) -> OpenStore:
    """Opens the same store anew at each call, as another process would."""
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return lambda: open_store(f"s3://{server.bucket}/{tmp_path.name}")
    if request.param == "fsspec":
        return lambda: FsspecStore(f"memory://{tmp_path.name}")
    return lambda: open_store(str(tmp_path / "store"))


def write_checkpoint(root: Path, step: int, content: str = "weights") -> Path:
    folder = root / f"checkpoint-{step}"
    (folder / "global_step").mkdir(parents=True)
    (folder / "adapter.safetensors").write_text(f"{content} {step}")
    (folder / "global_step" / "rank0.pt").write_text(f"optimizer {step}")
    return folder


def test_committed_checkpoint_comes_back_whole(open_test_store: OpenStore, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "node-a", 20)
    commit_checkpoint(open_test_store(), folder, 20, IDENTITY, ALONE)

    point = newest_checkpoint(open_test_store())
    assert point is not None
    fetched = fetch_checkpoint(point, tmp_path / "node-b")
    manifest = point.manifest
    assert (fetched / "adapter.safetensors").read_text() == "weights 20"
    assert (fetched / "global_step" / "rank0.pt").read_text() == "optimizer 20"
    assert (manifest.run_id, manifest.step, manifest.world_size) == ("run-a", 20, 1)
    assert manifest.size_bytes == len("weights 20") + len("optimizer 20")


def test_upload_without_manifest_does_not_exist(open_test_store: OpenStore, tmp_path: Path) -> None:
    store = open_test_store()
    commit_checkpoint(store, write_checkpoint(tmp_path / "n", 10), 10, IDENTITY, ALONE)
    newer = write_checkpoint(tmp_path / "n", 20)
    store.upload(newer / "adapter.safetensors", "checkpoint-20/adapter.safetensors")
    store.write("checkpoint-30/" + MANIFEST_NAME, b'{"step": 30, "torn')

    newest = newest_checkpoint(open_test_store())
    assert newest is not None
    assert newest.step == 10


def test_damaged_checkpoint_is_refused(open_test_store: OpenStore, tmp_path: Path) -> None:
    store = open_test_store()
    commit_checkpoint(store, write_checkpoint(tmp_path / "n", 5), 5, IDENTITY, ALONE)
    store.write("checkpoint-5/adapter.safetensors", b"weights X")
    point = newest_checkpoint(store)
    assert point is not None
    with pytest.raises(ResumeError, match="damaged"):
        fetch_checkpoint(point, tmp_path / "other")


def test_rotation_keeps_the_newest_and_the_best(open_test_store: OpenStore, tmp_path: Path) -> None:
    store, local = open_test_store(), tmp_path / "n"
    for step in (10, 20, 30, 40):
        commit_checkpoint(store, write_checkpoint(local, step), step, IDENTITY, ALONE)
    rotate(store, keep=2, protect=frozenset({"checkpoint-10"}))
    assert [manifest.step for manifest in committed(open_test_store())] == [10, 30, 40]
    prune_local(local, frozenset({"checkpoint-40"}))
    assert [path.name for path in local.iterdir()] == ["checkpoint-40"]


def test_intact_local_copy_is_not_fetched_again(open_test_store: OpenStore, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "n", 7)
    store = open_test_store()
    commit_checkpoint(store, folder, 7, IDENTITY, ALONE)
    point = newest_checkpoint(store)
    assert point is not None
    assert matches(folder, point.manifest)
    before = (folder / "adapter.safetensors").stat().st_mtime_ns
    assert fetch_checkpoint(point, tmp_path / "n") == folder
    assert (folder / "adapter.safetensors").stat().st_mtime_ns == before


def test_named_checkpoint_is_found_wherever_it_lies(open_test_store: OpenStore, tmp_path: Path) -> None:
    store = open_test_store()
    for step in (10, 20):
        commit_checkpoint(store, write_checkpoint(tmp_path / "n", step), step, IDENTITY, ALONE)
    point = named_checkpoint(f"{store.uri}/checkpoint-10")
    assert (fetch_checkpoint(point, tmp_path / "other") / "adapter.safetensors").read_text() == "weights 10"
    for wrong in (f"{store.uri}/checkpoint-15", f"{store.uri}/final"):
        with pytest.raises(ResumeError, match="checkpoint"):
            named_checkpoint(wrong)


def test_checkpoint_of_another_trainer_needs_no_manifest(tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path / "axolotl-out", 30)
    (folder / "trainer_state.json").write_text("{}")
    point = named_checkpoint(str(folder))
    assert point.step == 30
    assert (fetch_checkpoint(point, tmp_path / "ours") / "adapter.safetensors").is_file()


def test_attempts_count_up(open_test_store: OpenStore) -> None:
    assert [begin_attempt(open_test_store(), "r", 2, started=0.0) for _ in range(3)] == [1, 2, 3]


def test_time_of_earlier_attempts_is_what_was_seen_of_them(open_test_store: OpenStore) -> None:
    store = open_test_store()
    for started, seen in ((100.0, 160.0), (500.0, 530.0), (900.0, 1900.0)):
        note_seen(store, begin_attempt(store, "r", 1, started=started), now=seen)
    begin_attempt(store, "r", 1, started=3000.0)  # lost before its first minute was over
    assert seconds_before(store, 3) == 90.0
    assert seconds_before(store, 5) == 1090.0


def test_failures_are_counted_over_attempts(open_test_store: OpenStore) -> None:
    store = open_test_store()
    assert note_failure(store) == 0
    begin_attempt(store, "r", 1, started=0.0)
    assert [note_failure(store), note_failure(store)] == [1, 1]
    begin_attempt(store, "r", 1, started=0.0)
    begin_attempt(store, "r", 1, started=0.0)
    assert note_failure(store) == 2


@pytest.mark.parametrize("kind", ["local", "s3"])
def test_racing_starters_get_different_attempts(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    uri = str(tmp_path / "store")
    if kind == "s3":
        uri = f"s3://{request.getfixturevalue('s3').bucket}/{tmp_path.name}-race"
    with ThreadPoolExecutor(8) as pool:
        attempts = list(pool.map(lambda _: begin_attempt(open_store(uri), "r", 1, started=0.0), range(8)))
    assert sorted(attempts) == list(range(1, 9))


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        (None, "optimizer.pt"),
        ("deepspeed", "global_step3/zero.pt"),
        ("fsdp", "pytorch_model_fsdp.bin"),
        ("fsdp", "pytorch_model_fsdp_0/__0_0.distcp"),
    ],
)
def test_a_checkpoint_is_resumed_as_it_was_saved(kind: Any, file: str, tmp_path: Path) -> None:
    store, folder = open_store(str(tmp_path)), tmp_path / "checkpoint-3"
    (folder / file).parent.mkdir(parents=True)
    (folder / file).write_text("x")
    commit_checkpoint(store, folder, 3, IDENTITY, ALONE)
    point = newest_checkpoint(store)
    assert point is not None
    assert check_resumable(point, "digest-a", 1, sharding=kind) == []
    assert "configuration changed" in check_resumable(point, "digest-b", 1, sharding=kind)[0]
    other: Any = "fsdp" if kind == "deepspeed" else "deepspeed"
    with pytest.raises(ResumeError, match=f"this run is with {other}"):
        check_resumable(point, "digest-a", 1, sharding=other)
    if kind is None:
        assert check_resumable(point, "digest-a", 2, sharding=None) == []
        return
    with pytest.raises(ResumeError, match="saved by 1 workers") as caught:
        check_resumable(point, "digest-a", 2, sharding=kind)
    assert "run with 1 workers" in (caught.value.hint or "")


def test_missing_bucket_is_named(s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(StoreError, match="no-such-bucket") as caught:
        open_store("s3://no-such-bucket/runs").upload(tmp_path / "f", "f")
    assert "create the bucket" in str(caught.value.hint)


def test_unreachable_endpoint_is_named(monkeypatch: pytest.MonkeyPatch, s3: S3Server) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(StoreError, match="cannot be reached"):
        open_store("s3://ftl-test/x").write("k", b"v")


def test_retries_wait_longer_each_time_then_give_up() -> None:
    waits: list[float] = []
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        with_retries(fail, what="test", attempts=4, sleep=waits.append)
    assert len(calls) == 4
    assert waits == [0.5, 1.0, 2.0]
