"""The checkpoint store as a node sees it, and clocks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ftl_config.preflight import Outcome
from ftl_runner.checkpoints.store import FsspecStore, LocalStore, open_store
from ftl_runner.preflight import store as store_module
from ftl_runner.preflight.clock import against
from ftl_runner.preflight.store import check_store, remove_head_probe, write_head_probe
from tests.services.s3 import S3Server
from tests.unit.preflight.nodes import expect, node


@pytest.fixture(params=["local", "s3"])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        server: S3Server = request.getfixturevalue("s3")
        return f"s3://{server.bucket}/{tmp_path.name}"
    return str(tmp_path / "store")


def outcomes(uri: str, **expectations: object) -> dict[str, Outcome]:
    findings = list(check_store(node(expect(store_uri=uri, **expectations))))
    return {finding.check: finding.outcome for finding in findings}


def test_a_store_that_works_is_left_as_it_was(store_uri: str) -> None:
    assert outcomes(store_uri) == {"store": Outcome.PASSED, "store's clock": Outcome.PASSED}
    assert list(open_store(store_uri).list("")) == []


def test_a_fsspec_store(tmp_path: Path) -> None:
    assert outcomes(f"memory://{tmp_path.name}") == {"store": Outcome.PASSED, "store's clock": Outcome.PASSED}
    assert list(FsspecStore(f"memory://{tmp_path.name}").list("")) == []


def test_a_missing_bucket_ends_the_run(s3: S3Server) -> None:
    (finding,) = check_store(node(expect(store_uri="s3://no-such-bucket/run")))
    assert finding.outcome is Outcome.FAILED
    assert "create the bucket" in finding.fix
    assert "s3://no-such-bucket/run" in finding.wanted


def test_a_server_that_does_not_answer(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    (finding,) = check_store(node(expect(store_uri="s3://ftl-test/run")))
    assert finding.outcome is Outcome.FAILED
    assert "AWS_ENDPOINT_URL" in finding.fix


def test_an_unwritable_folder_ends_the_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (finding,) = check_store(node(expect(store_uri=str(tmp_path / "file/store"))))
    assert finding.outcome is Outcome.FAILED


def test_what_cannot_be_deleted_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: LocalStore, prefix: str) -> None:
        raise PermissionError("s3:DeleteObject is denied")

    monkeypatch.setattr(LocalStore, "delete", refuse)
    findings = list(check_store(node(expect(store_uri=str(tmp_path)))))
    assert [finding.outcome for finding in findings] == [Outcome.PASSED, Outcome.WARNING, Outcome.PASSED]
    assert "s3:DeleteObject is denied" in findings[1].found


def test_a_folder_of_each_nodes_own_is_noticed(store_uri: str, tmp_path: Path) -> None:
    probe = write_head_probe(store_uri)
    assert probe is not None
    assert outcomes(store_uri, head_probe=probe)["store"] is Outcome.PASSED
    assert outcomes(str(tmp_path / "other"), head_probe=probe)["store"] is Outcome.WARNING
    remove_head_probe(store_uri, probe)
    assert list(open_store(store_uri).list("")) == []


def test_no_probe_where_nothing_can_be_written(s3: S3Server) -> None:
    assert write_head_probe("s3://no-such-bucket/run") is None


@pytest.mark.parametrize(("hours", "outcome"), [(0.01, Outcome.WARNING), (1, Outcome.FAILED), (-1, Outcome.FAILED)])
def test_a_store_whose_clock_is_off(
    hours: float, outcome: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file whose time is another one, as a file server with a wrong clock gives it."""
    write = LocalStore.write

    def write_then_shift(self: LocalStore, key: str, content: bytes) -> None:
        write(self, key, content)
        path = tmp_path / key
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime + hours * 3600))

    monkeypatch.setattr(LocalStore, "write", write_then_shift)
    findings = list(check_store(node(expect(store_uri=str(tmp_path)))))
    assert findings[-1].check == store_module.CLOCK_CHECK
    assert findings[-1].outcome is outcome
    assert ("behind" if hours > 0 else "ahead of") in findings[-1].found


@pytest.mark.parametrize(
    ("skew_s", "outcome"),
    [
        (0.0, Outcome.PASSED),
        (-4.9, Outcome.PASSED),
        (61.0, Outcome.WARNING),
        (-61.0, Outcome.WARNING),
        (3600.0, Outcome.FAILED),
    ],
)
def test_clocks_of_nodes(skew_s: float, outcome: Outcome) -> None:
    assert against(node(), "clock", skew_s, "the head").outcome is outcome
