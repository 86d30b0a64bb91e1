"""Files behind a URL: a real HTTP server on loopback and memory://, faults that pass, and those that do not."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ftl_config.schema.data import DatasetSpec
from ftl_runner.checkpoints import retry
from ftl_runner.data import prepare, row_streams
from ftl_runner.data.errors import DataError
from ftl_runner.data.row_streams import open_streams, read_rows
from ftl_runner.data.sources import find_source
from tests.unit.data.data_support import make_config, write_jsonl
from tests.unit.data.test_data_sources import ROWS, read, write_parquet, write_saved

BODY = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


@dataclass
class Site:
    """What the server answers, and what it was asked."""

    files: dict[str, bytes]
    url: str = ""
    failures: list[int] = field(default_factory=list)
    """Statuses of the next answers, before it works."""
    validators: dict[str, str] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    sent_bytes: int = 0


def make_handler(site: Site) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            site.asked.append(self.command)
            path = self.path.partition("?")[0]
            status = site.failures.pop(0) if site.failures else 200 if path in site.files else 404
            body = site.files.get(path, b"") if status == 200 else b"no"
            wanted = self.headers.get("Range")
            if wanted and status == 200:
                first, _, last = wanted.removeprefix("bytes=").partition("-")
                total, body = len(body), body[int(first) : int(last or len(body)) + 1]
                status = 206
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if status == 206:
                self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{total}")
            for name, value in site.validators.items():
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)
                site.sent_bytes += len(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site({"/a.jsonl": BODY, "/b.jsonl.gz": gzip.compress(BODY), "/data": BODY})
    server = ThreadingHTTPServer(("127.0.0.1", 0), make_handler(site))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that a retry would have waited."""
    waited: list[float] = []
    monkeypatch.setattr(
        retry.with_retries, "__kwdefaults__", {**retry.with_retries.__kwdefaults__, "sleep": waited.append}
    )
    return waited


def streamed(url: str) -> list[Any]:
    return [row for _, _, row in read_rows(open_streams(find_source(DatasetSpec(path=url)).origins), 0, 1)]


@pytest.mark.parametrize("name", ["a.jsonl", "b.jsonl.gz", "a.jsonl?token=x", "data"])
def test_files_over_http(tmp_path: Path, site: Site, name: str) -> None:
    assert read(tmp_path, path=f"{site.url}/{name}") == ROWS
    assert streamed(f"{site.url}/{name}") == ROWS


def test_parquet_over_http_is_read_in_parts(tmp_path: Path, site: Site) -> None:
    site.files["/a.parquet"] = write_parquet(tmp_path / "a.parquet").read_bytes()
    assert read(tmp_path, path=f"{site.url}/a.parquet") == ROWS
    assert streamed(f"{site.url}/a.parquet") == ROWS


def test_a_fault_that_passes_is_tried_again(tmp_path: Path, site: Site, waits: list[float]) -> None:
    site.failures = [503, 500, 429]
    assert read(tmp_path, path=f"{site.url}/a.jsonl") == ROWS
    assert waits == [0.5, 1.0, 2.0]


def test_a_stream_goes_on_behind_a_fault(site: Site, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is fetched in parts of 5 MiB; the server fails at the second, and at opening it again."""
    rows = [{"text": f"{n} " * 500} for n in range(8000)]
    site.files["/long.jsonl"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    assert len(site.files["/long.jsonl"]) > 2 * 5 * 2**20
    monkeypatch.setattr(row_streams.time, "sleep", waits.append)
    found = []
    reader = read_rows(open_streams(find_source(DatasetSpec(path=f"{site.url}/long.jsonl")).origins), 1, 3)
    for _, index, row in reader:
        if not found:
            site.failures = [503, 502]
        found.append((index, row))
    assert found == list(enumerate(rows))[1::3]
    assert waits


@pytest.mark.parametrize(
    ("failures", "hint", "tries"),
    [([503] * 9, "did not answer in five tries", 5), ([404], "no such file", 1), ([403], "no permission", 1)],
)
def test_a_fault_that_stays_is_named(
    tmp_path: Path, site: Site, waits: list[float], failures: list[int], hint: str, tries: int
) -> None:
    site.failures = failures
    with pytest.raises(DataError, match=r"127\.0\.0\.1:\d+/a\.jsonl cannot be read") as raised:
        read(tmp_path, path=f"{site.url}/a.jsonl")
    assert hint in (raised.value.hint or "")
    assert len(site.asked) == tries
    assert len(waits) == tries - 1


def test_no_server_is_said_after_some_tries(tmp_path: Path, site: Site, waits: list[float]) -> None:
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/a\.jsonl cannot be read") as raised:
        read(tmp_path, path="http://127.0.0.1:9/a.jsonl")
    assert "five tries" in (raised.value.hint or "")
    assert len(waits) == 4


@pytest.mark.parametrize("header", ["ETag", "Last-Modified"])
def test_what_has_not_changed_is_not_downloaded(site: Site, header: str) -> None:
    site.validators = {header: "one"}

    def fingerprint() -> list[str]:
        return find_source(DatasetSpec(path=f"{site.url}/a.jsonl")).fingerprint()

    before = fingerprint()
    assert fingerprint() == before
    assert site.sent_bytes == 0
    site.validators = {header: "two"}
    assert fingerprint() != before


def test_a_server_that_tells_nothing_is_read_for_the_fingerprint(site: Site) -> None:
    def fingerprint() -> list[str]:
        return find_source(DatasetSpec(path=f"{site.url}/a.jsonl")).fingerprint()

    before = fingerprint()
    site.files["/a.jsonl"] = BODY.replace(b"do 3", b"no 3")
    assert fingerprint() != before


def test_prepared_data_of_an_unchanged_file_is_found_without_a_download(
    tmp_path: Path, site: Site, tokenizer: Any
) -> None:
    site.validators = {"ETag": '"v1"'}
    config = make_config({"path": f"{site.url}/a.jsonl", "type": "alpaca"}, folder=tmp_path)
    assert not prepare(config, tokenizer, cache_root=tmp_path / "cache").report.cache_hit
    before = site.sent_bytes
    assert before >= len(BODY)
    assert prepare(config, tokenizer, cache_root=tmp_path / "cache").report.cache_hit
    assert site.sent_bytes == before


def test_http_to_other_machines_is_refused() -> None:
    with pytest.raises(DataError, match="over https only"):
        find_source(DatasetSpec(path="http://127.0.0.1.example.org/a.jsonl"))


def test_any_filesystem_of_fsspec(tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe("/set/train.jsonl", BODY)
    memory.pipe("/set/test.jsonl", BODY[: BODY.index(b"\n") + 1])
    for file in write_saved(tmp_path / "saved").iterdir():
        memory.pipe(f"/saved/{file.name}", file.read_bytes())
    assert read(tmp_path, path="memory://set") == ROWS
    assert read(tmp_path, path="memory://set", split="test") == ROWS[:1]
    assert read(tmp_path, path="memory://set", data_files=["test.jsonl"]) == ROWS[:1]
    assert read(tmp_path, path="memory://saved") == ROWS
    assert streamed("memory://set") == streamed("memory://saved") == ROWS
    with pytest.raises(DataError, match="nothing at memory://none"):
        find_source(DatasetSpec(path="memory://none"))


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("gs://bucket/a.jsonl", "gcsfs", "gcs"), ("az://box/a.jsonl", "adlfs", "azure"), ("abfs://b/a", "adlfs", "azure")],
)
def test_a_filesystem_that_is_not_installed(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, package, None)  # as if it were not there, where it is
    with pytest.raises(DataError, match=f"needs {package}, which is not installed") as raised:
        find_source(DatasetSpec(path=url))
    assert raised.value.hint == f"pip install {package} (or the extra ftl-tune[{extra}])"


@pytest.mark.service
def test_s3_is_streamed(tmp_path: Path, s3: Any) -> None:
    import boto3

    client = boto3.client("s3")
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    client.upload_file(str(path), s3.bucket, "streams/a.jsonl")
    client.upload_file(str(write_parquet(tmp_path / "b.parquet")), s3.bucket, "streams/b.parquet")
    assert streamed(f"s3://{s3.bucket}/streams") == ROWS * 2
