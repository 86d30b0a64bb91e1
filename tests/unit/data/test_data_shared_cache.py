"""Prepared sets in a bucket: uploaded whole, fetched in place of tokenizing, one winner of a race."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from ftl_config import Config
from ftl_runner.checkpoints.store import open_store
from ftl_runner.data import prepare
from ftl_runner.data.prepared import Prepared
from ftl_runner.data.shared_cache import MANIFEST_NAME, SharedCache
from tests.unit.data.data_support import chat_row, make_config, write_jsonl

ROWS = [chat_row(f"question number {n}", f"answer {n}") for n in range(40)]
pytestmark = pytest.mark.service


@pytest.fixture
def config(tmp_path: Path) -> Config:
    path = write_jsonl(tmp_path / "data.jsonl", ROWS)
    entry = {"path": str(path), "type": "chat_template", "chat_template": "chatml"}
    return make_config(entry, folder=tmp_path, val_set_size=5)


@pytest.fixture
def uri(s3: Any, request: pytest.FixtureRequest) -> str:
    return f"s3://{s3.bucket}/sets/{request.node.name}"


def on_machine(name: str, config: Config, tokenizer: Any, folder: Path, uri: str) -> tuple[Prepared, list[str]]:
    """Prepare with a local cache of the machine's own."""
    lines: list[str] = []
    prepared = prepare(config, tokenizer, cache_root=folder / name, on_progress=lines.append, shared_uri=uri)
    return prepared, lines


def test_a_fresh_machine_fetches_what_another_prepared(
    config: Config, tokenizer: Any, tmp_path: Path, uri: str
) -> None:
    first, told = on_machine("one", config, tokenizer, tmp_path, uri)
    assert not first.report.cache_hit
    assert f"uploading the prepared data to {uri}" in told
    second, told = on_machine("two", config, tokenizer, tmp_path, uri)
    assert second.report.cache_hit
    assert not any("tokenized" in line for line in told)
    assert second.train.to_list() == first.train.to_list()
    assert second.eval is not None
    assert first.eval is not None
    assert second.eval.to_list() == first.eval.to_list()
    assert len(list(open_store(uri).list(""))) == 4  # train, eval, report, manifest: the second upload did not happen


def test_any_fsspec_address_serves(config: Config, tokenizer: Any, tmp_path: Path) -> None:
    uri = "memory://prepared-sets"
    assert not on_machine("one", config, tokenizer, tmp_path, uri)[0].report.cache_hit
    assert on_machine("two", config, tokenizer, tmp_path, uri)[0].report.cache_hit


def test_dataset_prepared_path_may_be_the_address(
    config: Config, tokenizer: Any, tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = config.data.model_copy(update={"dataset_prepared_path": uri})
    hits = []
    for machine in ("one", "two"):
        (tmp_path / machine).mkdir()
        monkeypatch.chdir(tmp_path / machine)
        prepared = prepare(config.model_copy(update={"data": data}), tokenizer)
        hits.append(prepared.report.cache_hit)
        assert prepared.report.cache_path.startswith(str(tmp_path / machine / "last_run_prepared"))
    assert hits == [False, True]


def test_a_set_that_is_whole_here_is_uploaded_if_it_is_not_there(
    config: Config, tokenizer: Any, tmp_path: Path, uri: str
) -> None:
    prepare(config, tokenizer, cache_root=tmp_path / "one")
    prepared, told = on_machine("one", config, tokenizer, tmp_path, uri)
    assert prepared.report.cache_hit
    assert f"uploading the prepared data to {uri}" in told
    assert on_machine("two", config, tokenizer, tmp_path, uri)[0].report.cache_hit


def _die_while_uploading(config: Config, tokenizer: Any, folder: Path, uri: str) -> None:
    from ftl_runner.checkpoints.s3 import S3Store

    upload = S3Store.upload

    def upload_and_die(store: S3Store, source: Path, key: str) -> None:
        upload(store, source, key)
        os.kill(os.getpid(), signal.SIGKILL)

    S3Store.upload = upload_and_die  # type: ignore[method-assign]
    on_machine("dying", config, tokenizer, folder, uri)


def test_a_killed_upload_is_not_read(config: Config, tokenizer: Any, tmp_path: Path, uri: str) -> None:
    process = multiprocessing.get_context("fork").Process(
        target=_die_while_uploading, args=(config, tokenizer, tmp_path, uri)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    left = list(open_store(uri).list(""))
    assert len(left) == 1
    assert not left[0].endswith(MANIFEST_NAME)
    assert not on_machine("two", config, tokenizer, tmp_path, uri)[0].report.cache_hit
    assert on_machine("three", config, tokenizer, tmp_path, uri)[0].report.cache_hit


def test_a_damaged_set_is_made_anew(config: Config, tokenizer: Any, tmp_path: Path, uri: str) -> None:
    first, _ = on_machine("one", config, tokenizer, tmp_path, uri)
    store = open_store(uri)
    key = next(key for key in store.list("") if key.endswith("train.arrow"))
    store.write(key, b"cut")
    second, _ = on_machine("two", config, tokenizer, tmp_path, uri)
    assert not second.report.cache_hit
    assert second.train.to_list() == first.train.to_list()
    assert on_machine("three", config, tokenizer, tmp_path, uri)[0].report.cache_hit


def _race(machine: int, config: Config, tokenizer: Any, folder: Path, uri: str, start: Any, queue: Any) -> None:
    prepared = prepare(config, tokenizer, cache_root=folder / f"machine-{machine}")
    start.wait(60)
    won = SharedCache(uri).publish(prepared.report.fingerprint, Path(prepared.report.cache_path))
    queue.put(won)


def test_of_several_uploads_at_once_one_counts(config: Config, tokenizer: Any, tmp_path: Path, uri: str) -> None:
    context = multiprocessing.get_context("fork")
    queue, start = context.Queue(), context.Barrier(4)
    processes = [
        context.Process(target=_race, args=(number, config, tokenizer, tmp_path, uri, start, queue))
        for number in range(4)
    ]
    for process in processes:
        process.start()
    results = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sorted(results) == [False, False, False, True]
    keys = list(open_store(uri).list(""))
    assert len(keys) == 4  # those that lost took their files away
    manifest = json.loads(open_store(uri).read(next(key for key in keys if key.endswith(MANIFEST_NAME))) or b"")
    assert all(f"{manifest['prefix']}/{entry['path']}" in keys for entry in manifest["files"])
    assert on_machine("late", config, tokenizer, tmp_path, uri)[0].report.cache_hit
